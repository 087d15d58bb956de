//! A deterministic simulation of a pipeline with a storage: one seed is one schedule of crashes, delays,
//! refusals, reorderings and resends.
//!
//! Real are the engine task, its recovery, its reloads, its outbox, the engine, the queues of exporters
//! with their retries, and in one schedule of eight the home on disk (redb). Simulated are the clock (it
//! stands still while anything can run), the threads of blocking work, the process, the disk, the
//! senders, and what exporters send to. A schedule runs on one thread, so that a seed gives the same
//! one again:
//!
//! ```text
//! SIMULATION_SEED=4711 SIMULATIONS=1 cargo test --lib simulation
//! ```
//!
//! The screen is not part of it, nor are successes that are remembered from before a finding.

mod home;
mod life;
mod peers;
mod sent;
mod storage;
mod truth;
mod world;

use std::{
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use world::World;

/// Lives of the process, of which the last is without a fault.
const LIVES: u32 = 6;

/// One schedule. What it did, to compare; an error says what was wrong.
fn simulate(seed: u64) -> Result<world::Record, String> {
    let world = World::new(seed);
    let lives = world.lock().pick(0, LIVES);
    for number in 0..=lives {
        life::live(&world, number == lives)
            .and_then(|()| world.lock().verdict())
            .map_err(|error| format!("life {number} of {lives}: {error}"))?;
    }
    truth::check(&world.lock())?;
    Ok(world.lock().record.clone())
}

#[expect(clippy::disallowed_methods, reason = "settings of this test")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Every acknowledged hit counts exactly once, no finding is missing, none has a second id, one state of
/// one finding has one content, and an exporter is at most a batch behind what it delivered.
#[test]
fn no_schedule_of_crashes_loses_or_doubles_anything() {
    let first = setting("SIMULATION_SEED", 0);
    let many = setting("SIMULATIONS", 150);
    let begin = crate::clock::unix_nanos();
    let (next, failed) = (AtomicU64::new(first), Mutex::new(None));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + many || failed.lock().unwrap().is_some() {
                return;
            }
            let wrong = match catch_unwind(AssertUnwindSafe(|| simulate(seed))) {
                Ok(Ok(_)) => continue,
                Ok(Err(wrong)) => wrong,
                Err(_panic) => "it panicked".to_owned(),
            };
            *failed.lock().unwrap() = Some((seed, wrong));
        }
    };
    thread::scope(|scope| {
        for _core in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
    if let Some((seed, wrong)) = failed.into_inner().unwrap() {
        panic!(
            "seed {seed}: {wrong}\nagain: SIMULATION_SEED={seed} SIMULATIONS=1 cargo test --lib simulation"
        );
    }
    let milliseconds = (crate::clock::unix_nanos() - begin) / 1_000_000;
    println!("{many} schedules from seed {first} in {milliseconds} ms");
}

#[test]
fn a_seed_is_one_schedule() {
    for seed in 0..40 {
        assert!(simulate(seed) == simulate(seed), "seed {seed}");
    }
}
