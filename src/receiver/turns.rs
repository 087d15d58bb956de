//! Turns: how many requests are read at a time, and whose is next.
//!
//! A flood of requests that take long to read would otherwise fill every queue of the runtime, and
//! what is short (a probe, a small request) would wait behind all of it. The addresses that wait have
//! their turns in rotation, so one address with a thousand requests takes no more than its share.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// A number of turns that are taken at a time. Copies share them.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Turns that are free. There are none while a request waits.
    free: usize,
    /// The requests that wait, by address and in the order in which they came.
    waiting: BTreeMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
    /// The addresses of `waiting`, the next one first.
    order: VecDeque<IpAddr>,
    /// The number of the next request that waits.
    next: u64,
}

/// A turn, which passes to the next request when it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Turns);

impl Turns {
    /// This number of turns at a time.
    pub(super) fn new(at_a_time: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: at_a_time,
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
            next: 0,
        })))
    }

    /// Waits for a turn of a request from this address.
    pub(super) async fn turn(&self, address: IpAddr) -> Turn {
        let mut waiting = {
            let mut state = self.lock();
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                return Turn(self.clone());
            }
            let (id, passed) = state.wait(address);
            Waiting {
                turns: self,
                address,
                id,
                passed: Some(passed),
            }
        };
        if let Some(passed) = &mut waiting.passed {
            // Its other end is kept until the turn passes to it.
            let _passed = passed.await;
        }
        waiting.passed = None;
        Turn(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a turn to the next request that waits, or sets it free.
    fn pass(&self) {
        let mut state = self.lock();
        while let Some(next) = state.take_next() {
            // One that has gone meanwhile does not take it.
            if next.send(()).is_ok() {
                return;
            }
        }
        state.free += 1;
    }
}

impl State {
    fn wait(&mut self, address: IpAddr) -> (u64, oneshot::Receiver<()>) {
        let (pass, passed) = oneshot::channel();
        let id = self.next;
        self.next += 1;
        let own = self.waiting.entry(address).or_insert_with(|| {
            self.order.push_back(address);
            BTreeMap::new()
        });
        own.insert(id, pass);
        (id, passed)
    }

    fn take_next(&mut self) -> Option<oneshot::Sender<()>> {
        while let Some(address) = self.order.pop_front() {
            let Some(own) = self.waiting.get_mut(&address) else {
                continue;
            };
            let next = own.pop_first();
            if own.is_empty() {
                self.waiting.remove(&address);
            } else {
                self.order.push_back(address);
            }
            if let Some((_, next)) = next {
                return Some(next);
            }
        }
        None
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass();
    }
}

/// A request that waits. If it is dropped meanwhile it leaves its place, and passes on a turn that it
/// has been given already.
struct Waiting<'a> {
    turns: &'a Turns,
    address: IpAddr,
    id: u64,
    /// `None` once it has its turn.
    passed: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut passed) = self.passed.take() else {
            return;
        };
        if let Some(own) = self.turns.lock().waiting.get_mut(&self.address) {
            own.remove(&self.id);
        }
        if passed.try_recv().is_ok() {
            self.turns.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use proptest::prelude::*;

    use super::*;

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[test]
    fn addresses_have_their_turns_in_rotation() {
        let turns = Turns::new(1);
        let mut first = Box::pin(turns.turn(address(1)));
        let mut turn = poll(&mut first);
        assert!(turn.is_some());
        // Many of one address wait before one of two others.
        let mut waiting: Vec<_> = [1, 1, 1, 1, 2, 3, 2]
            .map(|n| (n, Box::pin(turns.turn(address(n)))))
            .into();
        for (_, one) in &mut waiting {
            assert!(poll(one).is_none());
        }
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(turn.take());
            let at = waiting.iter_mut().position(|(_, one)| {
                turn = poll(one);
                turn.is_some()
            });
            order.push(waiting.remove(at.unwrap()).0);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1, 1]);
        drop(turn);
        assert!(poll(&mut Box::pin(turns.turn(address(9)))).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever begins, ends and is dropped while it waits: never more turns than there are, and
        /// none is lost.
        #[test]
        fn no_turn_is_lost_or_doubled(
            at_a_time in 1_usize..4,
            steps in prop::collection::vec((0_u8..4, 0_u8..3, any::<prop::sample::Index>()), 0..80),
        ) {
            let turns = Turns::new(at_a_time);
            let mut waiting = Vec::new();
            let mut taken: Vec<Turn> = Vec::new();
            for (step, n, index) in steps {
                match step {
                    0 => waiting.push(Box::pin(turns.turn(address(n)))),
                    1 if !waiting.is_empty() => {
                        let at = index.index(waiting.len());
                        if let Some(turn) = poll(&mut waiting[at]) {
                            taken.push(turn);
                            drop(waiting.remove(at));
                        }
                    }
                    2 if !waiting.is_empty() => drop(waiting.remove(index.index(waiting.len()))),
                    3 if !taken.is_empty() => drop(taken.remove(index.index(taken.len()))),
                    _ => {}
                }
                prop_assert!(taken.len() <= at_a_time);
            }
            drop((waiting, taken));
            let mut all: Vec<_> = (0..at_a_time)
                .map(|_| poll(&mut Box::pin(turns.turn(address(1)))))
                .collect();
            prop_assert!(all.iter().all(Option::is_some));
            prop_assert!(poll(&mut Box::pin(turns.turn(address(1)))).is_none());
            all.clear();
            let state = turns.lock();
            prop_assert_eq!((state.free, state.waiting.len()), (at_a_time, 0));
        }
    }

    /// A turn that is passed to a request whose sender has gone passes on.
    #[test]
    fn a_request_that_is_gone_passes_its_turn_on() {
        let turns = Turns::new(1);
        let turn = poll(&mut Box::pin(turns.turn(address(1))));
        let mut gone = Box::pin(turns.turn(address(2)));
        let mut next = pin!(turns.turn(address(3)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(poll(&mut gone).is_none());
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(turn);
        drop(gone);
        assert!(next.as_mut().poll(&mut context).is_ready());
    }
}
