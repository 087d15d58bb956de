//! `sending_queue`, `retry_on_failure` and `dead_letter`, which all exporters that send have.
use std::{path::PathBuf, time::Duration};

use super::{
    forms::{Boolean, Float, Number, Own, Time},
    hints::ABSENT,
    read::Section,
    settings::{self, settings},
    value::go_text,
};
use crate::exporter::{
    dead_letter,
    queue::{QueueConfig, RetryConfig},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

settings! {
    QUEUE: QueueConfig {
        enabled by queue_is_enabled: Boolean => true,
            "Only true is possible: a sender is answered when the queue has the findings.";
        queue_size: Number(1..=1_000_000),
            "Findings that may wait before senders are asked to come back later.";
    }
    hints {
        "num_consumers": Remove("one request at a time keeps findings in order"), kept [];
        "storage": Remove(ABSENT);
        "wait_for_result": Remove(ABSENT), kept ["false"];
        "block_on_overflow": Remove("without room senders are asked to retry later"), kept ["false"];
        "sizer": Remove("the queue counts findings"), kept ["requests", "items"];
        "batch": Remove("what waits leaves together");
    }
    check queue_is_enabled
}

settings! {
    RETRY: RetryConfig {
        enabled: Boolean, "Whether a failed request is repeated.";
        initial_interval: Time(MILLISECOND..=DAY), "Wait before the first repetition.";
        randomization_factor: Float(0.0..=1.0), "Share by which a wait varies either way.";
        multiplier: Float(1.0..=100.0), "Growth of the wait from one repetition to the next.";
        max_interval: Time(MILLISECOND..=DAY), "Longest wait.";
        max_elapsed_time: Time(Duration::ZERO..=YEAR),
            "Findings that could not be sent for this long are given up; 0: never, they wait until \
             the destination takes them.";
    }
    check retry_fits
}

settings! {
    DEAD_LETTER: dead_letter::Config {
        path: Own {
                form: "path",
                read: |section, key| section.value(key)?.filled().map(PathBuf::from),
                text: |_| String::new(),
            },
            "Where findings are written that the destination can never take, whole and with its \
             answer; auditwatch redeliver sends them again. Unset: they are counted and logged.",
            place;
        max_megabytes: Number(1..=100_000),
            "A file that would grow beyond this many MiB gets the time in its name, and a new one is \
             begun.";
        max_backups: Number(1..=1000), "Most files with the time in their name; the oldest is removed.";
    }
    hints {
        "max_days": Remove("max_backups bounds what is kept");
        "localtime": Remove("the time in names is UTC"), kept ["false"];
    }
}

fn queue_is_enabled(section: &Section<'_>, _: &mut QueueConfig) {
    let mut enabled = true;
    settings::read(&Boolean, section, "enabled", &mut enabled);
    if !enabled && let Some(value) = section.value("enabled") {
        value.fail(
            "only true is possible, because a sender is answered when the queue has the findings",
        );
    }
}

fn retry_fits(section: &Section<'_>, retry: &mut RetryConfig) {
    let [initial, longest, elapsed] = [
        retry.initial_interval,
        retry.max_interval,
        retry.max_elapsed_time,
    ]
    .map(go_text);
    if retry.initial_interval > retry.max_interval {
        section.fail(format_args!(
            "initial_interval ({initial}) must not be longer than max_interval ({longest})"
        ));
    }
    if !retry.max_elapsed_time.is_zero() && retry.max_elapsed_time < retry.max_interval {
        section.fail(format_args!(
            "max_elapsed_time ({elapsed}) must not be shorter than max_interval ({longest}); \
             0 means no end"
        ));
    }
}
