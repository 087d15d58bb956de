//! The HTTP server under all that is asked over HTTP: receivers, health check, metrics. It has the
//! connections, with TLS or without, their limits and their end.

mod accepting;
mod address;
mod closed;
mod connection;
mod handler;
mod limits;
mod listening;
mod serving;
mod slots;
mod socket;
mod watch;

pub use address::address_key;
pub use closed::{AddressCounts, Class, CloseReason, Connections};
pub use handler::Handler;
pub use limits::Limits;
pub use listening::{Before, Error, Listening, Versions};
pub use serving::{Ends, serve};
pub use slots::Spare;
pub use watch::Peer;
