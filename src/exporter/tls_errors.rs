//! TLS errors of connections, by type: HTTP/2 hands on nothing but their text.
//!
//! A server that wants a client certificate says so after the handshake (TLS 1.3), while the first
//! request is under way. A connector that is [`Noting`] looks at what the connection itself fails
//! with.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower_service::Service;

use crate::tls::advice::Advice;

/// What to do about the last TLS error. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct LastAdvice(Arc<Mutex<Option<Advice>>>);

impl LastAdvice {
    /// Takes it out.
    pub(super) fn take(&self) -> Option<Advice> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.take()
    }

    fn note<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled
            && let Some(advice) = Advice::of(error)
        {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(advice);
        }
        polled
    }
}

/// A connector, or a connection of it, whose TLS errors are noted.
#[derive(Clone, Debug)]
pub(super) struct Noting<T> {
    inner: T,
    last: LastAdvice,
}

impl<T> Noting<T> {
    pub(super) fn new(inner: T, last: LastAdvice) -> Self {
        Self { inner, last }
    }
}

impl<C> Service<Uri> for Noting<C>
where
    C: Service<Uri, Future: Send + 'static>,
{
    type Response = Noting<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, last) = (self.inner.call(uri), self.last.clone());
        Box::pin(async move { Ok(Noting::new(connecting.await?, last)) })
    }
}

impl<S: Connection> Connection for Noting<S> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<S: Read + Unpin> Read for Noting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.last.note(polled)
    }
}

impl<S: Write + Unpin> Write for Noting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.last.note(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.last.note(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(context);
        self.last.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
