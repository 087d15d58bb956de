//! The queue from outside, against a scripted exporter and in paused time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::{self, Instant},
    detection::Finding,
    exporter::{Exporter, Outcome, samples},
};

/// When a request came, and the numbers of the findings in it.
type Request = (Duration, Vec<u32>);

/// Answers by script, then accepts everything. Remembers what it was given and when.
#[derive(Clone)]
struct Scripted {
    script: Arc<Mutex<VecDeque<Outcome>>>,
    takes: Duration,
    log: Arc<Mutex<Vec<Request>>>,
    start: Instant,
}

impl Scripted {
    fn new(script: impl IntoIterator<Item = Outcome>) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            takes: Duration::ZERO,
            log: Arc::default(),
            start: clock::monotonic(),
        }
    }

    fn requests(&self) -> Vec<Vec<u32>> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|(_, batch)| batch.clone())
            .collect()
    }

    fn seconds(&self) -> Vec<u64> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|(at, _)| at.as_secs())
            .collect()
    }
}

impl Exporter for Scripted {
    async fn send(&mut self, batch: &[Arc<Finding>]) -> Outcome {
        let ids = batch
            .iter()
            .map(|one| u32::from_str_radix(&one.finding_id, 16).unwrap());
        let at = clock::monotonic().duration_since(self.start);
        self.log.lock().unwrap().push((at, ids.collect()));
        tokio::time::sleep(self.takes).await;
        let next = self.script.lock().unwrap().pop_front();
        next.unwrap_or(Outcome::Accepted(batch.len()))
    }
}

fn steady() -> RetryConfig {
    RetryConfig {
        randomization_factor: 0.0,
        multiplier: 1.0,
        max_elapsed_time: Duration::from_mins(5),
        ..RetryConfig::default()
    }
}

fn reason() -> String {
    "because".to_owned()
}

fn refused() -> Outcome {
    Outcome::Refused {
        reason: reason(),
        after: None,
    }
}

fn large(findings: usize) -> Outcome {
    Outcome::TooLarge {
        findings,
        reason: reason(),
    }
}

fn invalid(index: usize) -> Outcome {
    Outcome::Invalid {
        index,
        reason: reason(),
    }
}

/// Delivers this number of findings, which wait from the start.
async fn deliver(count: u32, exporter: &Scripted, retry: RetryConfig) -> (Totals, Arc<Counters>) {
    let (queue, receiver) = queue("test".to_owned(), QueueConfig::default());
    for finding in samples::findings(count) {
        queue.try_push(finding).unwrap();
    }
    let counters = Arc::clone(queue.counters());
    drop(queue);
    let totals = run(
        receiver,
        exporter.clone(),
        retry,
        100,
        CancellationToken::new(),
    )
    .await;
    assert_eq!(counters.sent(), totals.sent);
    assert_eq!(counters.send_failed(), totals.failed);
    assert_eq!(
        totals.sent + totals.failed,
        u64::from(count),
        "nothing vanishes"
    );
    (totals, counters)
}

#[test]
fn room_is_bounded_and_known() {
    let (queue, receiver) = queue("debug/x".to_owned(), QueueConfig { queue_size: 2 });
    assert_eq!(
        (queue.id(), queue.capacity(), queue.free()),
        ("debug/x", 2, 2)
    );
    queue.try_push(samples::opened(0)).unwrap();
    queue.clone().try_push(samples::opened(1)).unwrap();
    assert_eq!(queue.free(), 0);
    assert_eq!(queue.try_push(samples::opened(2)), Err(samples::opened(2)));
    drop(receiver);
    assert_eq!(queue.try_push(samples::opened(2)), Err(samples::opened(2)));
    assert_eq!(
        super::queue(String::new(), QueueConfig { queue_size: 0 })
            .0
            .capacity(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_lone_finding_leaves_at_once_and_batches_form_meanwhile() {
    let mut exporter = Scripted::new([]);
    exporter.takes = Duration::from_secs(10);
    let (queue, receiver) = queue("test".to_owned(), QueueConfig { queue_size: 3 });
    let sender = async move {
        for finding in samples::findings(9) {
            queue.push(finding).await.unwrap();
        }
    };
    let sending = run(
        receiver,
        exporter.clone(),
        steady(),
        4,
        CancellationToken::new(),
    );
    let (totals, ()) = tokio::join!(sending, sender);
    assert_eq!(totals, Totals { sent: 9, failed: 0 });
    let requests = exporter.requests();
    assert_eq!(
        requests.concat(),
        (0..9).collect::<Vec<_>>(),
        "in order, once"
    );
    assert!(
        requests.iter().all(|batch| batch.len() <= 4),
        "{requests:?}"
    );
    assert!(requests.iter().any(|batch| batch.len() > 1), "{requests:?}");
    assert_eq!(exporter.seconds()[0], 0);
}

#[tokio::test(start_paused = true)]
async fn failures_are_repeated_in_order_until_they_succeed() {
    let exporter = Scripted::new([
        Outcome::retry("down"),
        Outcome::Retry {
            reason: reason(),
            after: Some(Duration::from_mins(1)),
        },
        Outcome::retry("down"),
    ]);
    let (totals, counters) = deliver(3, &exporter, steady()).await;
    assert_eq!(totals, Totals { sent: 3, failed: 0 });
    assert_eq!(counters.retries(), 3);
    assert_eq!(exporter.seconds(), [0, 5, 65, 70]);
    assert_eq!(exporter.requests(), vec![vec![0, 1, 2]; 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_not_sent_again() {
    let exporter = Scripted::new([
        Outcome::Accepted(2),
        Outcome::retry("down"),
        Outcome::Accepted(1),
    ]);
    let (totals, _) = deliver(5, &exporter, steady()).await;
    assert_eq!(totals, Totals { sent: 5, failed: 0 });
    assert_eq!(
        exporter.requests(),
        [
            vec![0, 1, 2, 3, 4],
            vec![2, 3, 4],
            vec![2, 3, 4],
            vec![3, 4]
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_given_up_in_time_and_the_next_one_tried() {
    let exporter = Scripted::new(vec![Outcome::retry("down"); 61]);
    let (queue, receiver) = queue("test".to_owned(), QueueConfig::default());
    for finding in samples::findings(4) {
        queue.try_push(finding).unwrap();
    }
    drop(queue);
    let totals = run(
        receiver,
        exporter.clone(),
        steady(),
        2,
        CancellationToken::new(),
    )
    .await;
    assert_eq!(totals, Totals { sent: 2, failed: 2 });
    assert_eq!(*exporter.seconds().last().unwrap(), 300);
}

#[tokio::test(start_paused = true)]
async fn retrying_can_be_turned_off() {
    let exporter = Scripted::new([Outcome::retry("down")]);
    let retry = RetryConfig {
        enabled: false,
        ..steady()
    };
    assert_eq!(
        deliver(2, &exporter, retry).await.0,
        Totals { sent: 0, failed: 2 }
    );
    assert_eq!(exporter.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn too_large_is_halved_and_one_alone_given_up() {
    let exporter = Scripted::new([large(4), large(2), large(1)]);
    let (totals, _) = deliver(4, &exporter, steady()).await;
    assert_eq!(totals, Totals { sent: 3, failed: 1 });
    assert_eq!(
        exporter.requests(),
        [
            vec![0, 1, 2, 3],
            vec![0, 1],
            vec![0],
            vec![1],
            vec![2],
            vec![3]
        ]
    );
    assert_eq!(exporter.seconds(), [0; 6], "nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn halving_goes_by_what_the_request_held() {
    let exporter = Scripted::new([large(2)]);
    deliver(8, &exporter, steady()).await;
    assert_eq!(exporter.requests()[1], [0]);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_finding_is_dropped_and_the_rest_sent() {
    let exporter = Scripted::new([invalid(1), invalid(2), invalid(0)]);
    let (totals, _) = deliver(5, &exporter, steady()).await;
    assert_eq!(totals, Totals { sent: 2, failed: 3 });
    assert_eq!(
        exporter.requests(),
        [
            vec![0, 1, 2, 3, 4],
            vec![0, 2, 3, 4],
            vec![0, 2, 4],
            vec![2, 4]
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_in_part_is_lost_and_never_sent_again() {
    let partial = |findings, rejected| Outcome::Partial {
        findings,
        rejected,
        reason: reason(),
    };
    let exporter = Scripted::new([partial(3, 2), partial(0, 1), partial(9, 9)]);
    let (totals, counters) = deliver(5, &exporter, steady()).await;
    assert_eq!(totals, Totals { sent: 1, failed: 4 });
    assert_eq!((counters.sent(), counters.send_failed()), (1, 4));
    assert_eq!(
        exporter.requests(),
        [vec![0, 1, 2, 3, 4], vec![3, 4], vec![3, 4]]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_waits_in_order_and_its_age_is_known() {
    let exporter = Scripted::new(vec![refused(); 100]);
    let (queue, receiver) = queue("test".to_owned(), QueueConfig::default());
    for finding in samples::findings(5) {
        queue.try_push(finding).unwrap();
    }
    let counters = Arc::clone(queue.counters());
    drop(queue);
    let forever = RetryConfig {
        max_elapsed_time: Duration::ZERO,
        ..steady()
    };
    let running = run(
        receiver,
        exporter.clone(),
        forever,
        3,
        CancellationToken::new(),
    );
    let watching = async {
        tokio::time::sleep(Duration::from_secs(402)).await;
        assert_eq!(counters.oldest_age(), Duration::from_secs(402));
        assert!(!counters.is_up());
    };
    let (totals, ()) = tokio::join!(running, watching);
    assert_eq!(totals, Totals { sent: 5, failed: 0 });
    assert_eq!(exporter.requests().len(), 102);
    assert_eq!(exporter.requests()[100..], [vec![0, 1, 2], vec![3, 4]]);
    assert_eq!(counters.oldest_age(), Duration::ZERO);
    assert!(counters.is_up());
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_cannot_be_end_all_the_same() {
    let exporter = Scripted::new([Outcome::Accepted(0), Outcome::Accepted(99)]);
    assert_eq!(
        deliver(2, &exporter, steady()).await.0,
        Totals { sent: 2, failed: 0 }
    );
    let exporter = Scripted::new([invalid(7), large(0)]);
    assert_eq!(
        deliver(2, &exporter, steady()).await.0,
        Totals { sent: 1, failed: 1 }
    );
}

async fn abandoned_after(seconds: u64, exporter: Scripted) -> (Totals, u64) {
    let (queue, receiver) = queue("test".to_owned(), QueueConfig::default());
    for finding in samples::findings(5) {
        queue.try_push(finding).unwrap();
    }
    let abandon = CancellationToken::new();
    let fire = abandon.clone();
    let timer = async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        fire.cancel();
    };
    let start = exporter.start;
    let (totals, ()) = tokio::join!(run(receiver, exporter, steady(), 2, abandon), timer);
    assert!(
        queue.try_push(samples::opened(9)).is_err(),
        "the exporter has ended"
    );
    (totals, clock::monotonic().duration_since(start).as_secs())
}

#[tokio::test(start_paused = true)]
async fn abandoning_ends_waiting_retrying_and_sending_at_once() {
    let waiting = Scripted::new([Outcome::Accepted(2), Outcome::retry("down")]);
    assert_eq!(
        abandoned_after(3, waiting).await,
        (Totals { sent: 2, failed: 3 }, 3)
    );
    let mut hanging = Scripted::new([]);
    hanging.takes = Duration::from_hours(1);
    assert_eq!(
        abandoned_after(3, hanging).await,
        (Totals { sent: 0, failed: 5 }, 3)
    );
    let idle = Scripted::new([]);
    assert_eq!(
        abandoned_after(3, idle).await,
        (Totals { sent: 5, failed: 0 }, 3)
    );
}

/// Runs an exporter with three findings and a shutdown of 20 s that begins after three seconds. What
/// became of them, when requests came, and what was lost in the shutdown.
async fn shut_down(exporter: Scripted, retry: RetryConfig) -> (Totals, Vec<u64>, u64) {
    let (queue, receiver) = queue("test".to_owned(), QueueConfig::default());
    for finding in samples::findings(3) {
        queue.try_push(finding).unwrap();
    }
    drop(queue);
    let shutdown = Shutdown::default();
    let service = shutdown.clone();
    let timer = async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        service.begin(Duration::from_secs(20));
        tokio::time::sleep(Duration::from_secs(20)).await;
        service.abandon();
    };
    let running = run(receiver, exporter.clone(), retry, 2, shutdown.clone());
    let (totals, ()) = tokio::join!(running, timer);
    (totals, exporter.seconds(), shutdown.lost())
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_hurries_and_gives_up_nothing_before_its_end() {
    let all = Totals { sent: 3, failed: 0 };
    let hour = || Outcome::Retry {
        reason: reason(),
        after: Some(Duration::from_hours(1)),
    };
    // The wait would have been an hour.
    let waits = Scripted::new([hour(), hour(), hour()]);
    assert_eq!(
        shut_down(waits, steady()).await,
        (all, vec![0, 3, 4, 5, 5], 0)
    );
    // Halves are tried at once.
    let halves = Scripted::new([hour(), large(2), hour()]);
    assert_eq!(
        shut_down(halves, steady()).await,
        (all, vec![0, 3, 3, 4, 4, 4], 0)
    );
    let never = Scripted::new(std::iter::repeat_with(hour).take(100));
    let (totals, seconds, lost) = shut_down(never, steady()).await;
    assert_eq!((totals, lost), (Totals { sent: 0, failed: 3 }, 3));
    // At its very end it may be one more.
    assert_eq!(seconds[..21], [vec![0], (3..23).collect()].concat());
}

#[tokio::test(start_paused = true)]
async fn retrying_that_is_off_stays_off_in_a_shutdown() {
    let mut hangs = Scripted::new([Outcome::retry(reason())]);
    hangs.takes = Duration::from_secs(15);
    let off = RetryConfig {
        enabled: false,
        ..steady()
    };
    // Nothing is cut that would not be tried again.
    let lost = Totals { sent: 0, failed: 3 };
    let (totals, seconds, in_shutdown) = shut_down(hangs.clone(), off).await;
    assert_eq!((totals, seconds, in_shutdown), (lost, vec![0, 15], 3));
}

#[tokio::test(start_paused = true)]
async fn attempts_that_hang_are_cut_shorter_and_shorter() {
    let mut hangs = Scripted::new([]);
    hangs.takes = Duration::from_hours(1);
    let (totals, seconds, lost) = shut_down(hangs, steady()).await;
    assert_eq!((totals, lost), (Totals { sent: 0, failed: 3 }, 3));
    // Half of 20 s, of 9 s and of 3.5 s, and a second after each.
    assert_eq!(seconds, [0, 14, 19, 22]);
}

/// What the log of this thread says, a line each.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_tells_of_trouble_its_end_and_every_loss_without_a_flood() {
    // With a single subscriber alive, tracing asks only the thread that comes by first whether a
    // line is wanted, and remembers the answer of a test without one for all. Two make it ask all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut script = vec![Outcome::retry("down"); 30];
    script.push(Outcome::Accepted(1));
    script.extend(vec![invalid(0); 8]);
    deliver(9, &Scripted::new(script), steady()).await;
    drop(guard);

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let of = |level: &str| {
        text.lines()
            .filter(|line| line.trim_start().starts_with(level))
            .count()
    };
    assert_eq!((of("WARN"), of("INFO"), of("ERROR")), (3, 1, 1), "{text}");
    let first = text.lines().next().unwrap();
    assert!(
        first.contains("exporter=\"test\"") && first.contains("down"),
        "{first}"
    );
    let loss = text.lines().find(|line| line.starts_with("ERROR")).unwrap();
    assert!(
        loss.contains("findings=8") && loss.contains("because"),
        "{loss}"
    );
    assert!(
        loss.contains("0000001 ") && loss.matches("000000").count() >= 5,
        "{loss}"
    );
}
