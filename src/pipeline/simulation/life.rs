//! One life of the process, from its start to its end.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    peers::{self, Sending},
    sent::BASE,
    storage::Simulated,
    truth::detection,
    world::{EXPORTERS, Faults, State, World},
};
use crate::{
    deadline::simulated,
    detection::{screen::Screen, time::Micros},
    exporter::queue::{self, Queue, QueueConfig, RetryConfig, Shutdown},
    pipeline::{
        change::{Change, Control, control},
        counters::Counters,
        durable::{DurableTask, Kept},
        intake::Intake,
        ledger::FindingBudget,
        outbox::Lanes,
        pace::Pace,
        recovery::{RecoverError, recover},
        submission::{Submit, inbox},
    },
};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_mins(30);

/// How often snapshots are made.
const PACE: Pace = Pace {
    log: 1500,
    every: Duration::from_secs(5),
    rest: Duration::from_millis(1500),
};

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// By `kill -9` or the loss of power after this time, unless it dies before.
    Kill(Duration),
    /// By SIGTERM after this time.
    Term(Duration),
    /// By SIGTERM when all is delivered.
    Done,
}

/// One life. Nothing goes wrong in the last one.
pub(super) fn live(world: &World, is_last: bool) -> Result<(), String> {
    let end = begin(&mut world.lock(), is_last);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    simulated::set(Some({
        let world = world.clone();
        Box::new(move || world.lock().pause())
    }));
    let died = Arc::clone(&world.lock().died);
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            () = died.notified() => Ok(()),
            result = process(world, end) => result,
        }
    });
    {
        let mut state = world.lock();
        state.is_dead = true;
        state.home.cut_off();
    }
    drop(runtime);
    simulated::set(None);
    result
}

/// Draws what goes wrong.
fn begin(state: &mut State, is_last: bool) -> End {
    let power_loss = state.happens(50).then(|| state.seed());
    state.home.restart(power_loss);
    state.is_dead = false;
    state.died = Arc::default();
    state.faults = Faults::default();
    if is_last {
        return End::Done;
    }
    if state.happens(60) {
        // Often in the start, or soon after it.
        let most = [3, 12, 60][state.pick(0, 2) as usize];
        state.faults.crash_in = Some(state.pick(0, most));
    }
    for faults in 0..3 {
        let often = if state.happens(50) {
            state.pick(1, 30)
        } else {
            0
        };
        match faults {
            0 => state.faults.storage = often,
            1 => state.faults.slow = often,
            _ => state.faults.exporter = often * 3,
        }
    }
    let time = Duration::from_millis(state.pick(0, 6000).into());
    if state.happens(50) {
        End::Kill(time)
    } else {
        End::Term(time)
    }
}

/// What the service starts.
struct Process {
    submit: Submit,
    /// What the hits of senders were found by; a reload puts another in its place.
    screen: Screen,
    control: Control,
    queues: Vec<Queue>,
    cut: CancellationToken,
    ending: Shutdown,
    task: JoinHandle<()>,
    exporters: Vec<JoinHandle<queue::Totals>>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime ends with the process"
)]
fn start(world: &World) -> Result<Option<Process>, String> {
    let storage = match Simulated::open(world) {
        Ok(storage) => storage,
        Err(error) => return may_fail(world, error.is_damage(), &error),
    };
    let exporters = EXPORTERS.map(str::to_owned);
    let now = Micros(BASE - 3_600_000_000);
    let recovered = match recover(detection(), Box::new(storage), ("logs", now), &exporters) {
        Ok(recovered) => recovered,
        Err(error) => {
            let is_damage = !matches!(&error, RecoverError::Storage(error) if !error.is_damage());
            return may_fail(world, is_damage, &error);
        }
    };
    let ending = Shutdown::default();
    let (mut queues, mut tasks) = (Vec::new(), Vec::new());
    for (place, id) in EXPORTERS.into_iter().enumerate() {
        let mut state = world.lock();
        let queue_size = state.queue_size;
        let (queue, receiver) = queue::queue(id.to_owned(), QueueConfig { queue_size });
        queue.keep(true);
        let cursor = recovered.storage().cursor(id).unwrap_or(u64::MAX);
        let endpoint = &mut state.endpoints[place];
        let confirmed = endpoint.confirmed;
        endpoint.next = cursor;
        if cursor > confirmed || cursor + (queue_size as u64) < confirmed {
            state.wrong(format!(
                "cursor {cursor} of {id}, which has delivered {confirmed}"
            ));
        }
        drop(state);
        let retry = RetryConfig {
            initial_interval: Duration::from_millis(50),
            max_interval: Duration::from_millis(200),
            randomization_factor: 0.0,
            ..RetryConfig::default()
        };
        let exporter = Sending(world.clone(), place);
        tasks.push(tokio::spawn(queue::run(
            receiver,
            exporter,
            retry,
            5,
            ending.clone(),
        )));
        queues.push(queue);
    }
    let unbounded = FindingBudget::new(usize::MAX);
    let lanes = Lanes::new(
        queues.clone(),
        recovered.storage(),
        (ending.clone(), unbounded),
    );
    let (submit, inbox) = inbox();
    let (name, counters) = ("logs".to_owned(), Arc::new(Counters::default()));
    let screen = recovered.detection().screen().clone();
    let intake = Intake::new(
        name.clone(),
        screen.clone(),
        submit.clone(),
        Arc::clone(&counters),
    );
    let (control, changes) = control(&intake);
    let task = DurableTask::new(name, recovered, (inbox, changes), lanes, (counters, kept()));
    let cut = CancellationToken::new();
    Ok(Some(Process {
        submit,
        screen,
        control,
        queues,
        task: tokio::spawn(task.paced(PACE).run(cut.clone())),
        cut,
        ending,
        exporters: tasks,
    }))
}

fn kept() -> Kept {
    Kept {
        timeout: Duration::from_secs(10),
        limit: 16 << 10,
        is_up: Arc::new(AtomicBool::new(true)),
    }
}

/// A start may fail when the storage does, not because of what is in it.
fn may_fail(
    world: &World,
    is_damage: bool,
    error: &dyn std::fmt::Display,
) -> Result<Option<Process>, String> {
    let state = world.lock();
    let is_faulty = state.is_dead || state.faults.storage > 0 || state.faults.full > 0;
    if is_faulty && !is_damage {
        Ok(None)
    } else {
        Err(format!("it does not start: {error}"))
    }
}

async fn process(world: &World, end: End) -> Result<(), String> {
    let Some(process) = start(world)? else {
        return Ok(());
    };
    let connections = world.lock().pick(1, 4) as usize;
    let senders = senders(world, &process, connections, false);
    reloads(world, &process, end).await;
    match end {
        End::Kill(time) => {
            sleep(time).await;
            return Ok(());
        }
        End::Term(time) => sleep(time).await,
        End::Done => {
            for sender in senders {
                let sent = timeout(LONG, sender).await;
                sent.map_err(|_| "requests are refused for ever")?.unwrap();
            }
            for sender in self::senders(world, &process, 1, true) {
                let sent = timeout(LONG, sender).await;
                sent.map_err(|_| "requests are refused for ever")?.unwrap();
            }
            let delivered = timeout(LONG, async {
                loop {
                    let is_all = {
                        let state = world.lock();
                        let all = state.record.findings.len() as u64;
                        state.endpoints.iter().all(|one| one.confirmed == all)
                    };
                    if is_all {
                        break;
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            });
            delivered
                .await
                .map_err(|_| "findings are never delivered")?;
        }
    }
    term(process).await
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime ends with the process"
)]
fn senders(world: &World, process: &Process, many: usize, last: bool) -> Vec<JoinHandle<()>> {
    let connection = |place| {
        let to = (process.submit.clone(), process.screen.clone());
        let sending = peers::send(world.clone(), to, (place, many), last);
        tokio::spawn(sending)
    };
    (0..many).map(connection).collect()
}

/// The configuration is loaded again now and then, and nothing that shapes a window has changed.
async fn reloads(world: &World, process: &Process, end: End) {
    let times = {
        let mut state = world.lock();
        if state.happens(30) {
            state.pick(1, 3)
        } else {
            0
        }
    };
    for _ in 0..times {
        let wait = world.lock().pick(0, 400);
        if let End::Kill(time) | End::Term(time) = end
            && time < Duration::from_secs(2)
        {
            return;
        }
        sleep(Duration::from_millis(wait.into())).await;
        let change = Change {
            detection: Some(Box::new(detection())),
            queues: process.queues.clone(),
        };
        // It waits while the storage hangs, as everything does.
        if timeout(LONG, process.control.apply(change)).await.is_err() {
            world.lock().wrong("a reload never ends".to_owned());
        }
    }
}

/// As the service stops.
async fn term(process: Process) -> Result<(), String> {
    let Process {
        submit,
        control,
        queues,
        cut,
        ending,
        task,
        exporters,
        ..
    } = process;
    drop((submit, control, queues));
    ending.begin(Duration::from_secs(20));
    cut.cancel();
    let stop = async {
        sleep(Duration::from_secs(20)).await;
        ending.abandon();
        std::future::pending::<()>().await;
    };
    let ended = async {
        let task = timeout(LONG, task).await;
        task.map_err(|_| "the engine task does not end")?
            .map_err(|error| format!("the engine task: {error}"))?;
        for exporter in exporters {
            let exporter = timeout(LONG, exporter).await;
            exporter
                .map_err(|_| "an exporter does not end")?
                .map_err(|error| format!("an exporter: {error}"))?;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        result = ended => result,
        () = stop => Ok(()),
    }
}
