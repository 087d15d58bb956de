//! What became of records that are no plain events: counts by shape and by reason.

/// Names of the values of an enumeration, in their order.
macro_rules! named {
    ($(#[$meaning:meta])* $name:ident { $($(#[$of:meta])* $one:ident: $text:literal,)* }) => {
        $(#[$meaning])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$of])* $one,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: [Self; [$(Self::$one),*].len()] = [$(Self::$one),*];

            /// Its name in metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$one => $text,)*
                }
            }
        }
    };
}

named! {
    /// The shape of an envelope.
    Shape {
        /// An `EventList`: objects in `items`.
        EventList: "event_list",
        /// A JSON list of events.
        List: "list",
        /// An event under a key such as `log` or `message`.
        Carrier: "carrier",
        /// JSON text as a JSON string.
        Encoded: "encoded_string",
        /// A subscription of log events of AWS: `logEvents`.
        CloudWatch: "cloudwatch",
        /// Diagnostic logs of AKS: `records` with `properties.log`.
        Aks: "aks",
        /// Cloud Audit Logs of GKE: `protoPayload`.
        Gke: "gke",
        /// A line behind the prefix of a container runtime.
        Cri: "cri",
        /// A line behind another prefix, such as that of journald or syslog.
        Prefix: "prefix",
        /// Members of members as keys with dots.
        Flat: "flattened",
        /// Keys in another case.
        Respelled: "pascal_case",
    }
}

named! {
    /// Why a record, or a part of it, was ignored.
    Reason {
        /// It holds nothing.
        Empty: "empty",
        /// It is no JSON.
        NoJson: "no_json",
        /// It is JSON, or a map, and no audit event.
        NoEvent: "no_event",
        /// AWS's own message, by which it probes a subscription.
        Control: "control_message",
        /// A record of AKS or Cloud Audit Logs that is of another category or service.
        Category: "other_category",
        /// A cut audit event that has lost its user, address, URI or status code.
        Cut: "cut",
        /// It is larger than is decoded.
        TooLarge: "too_large",
        /// There are more envelopes inside each other than are opened.
        TooDeep: "too_deep",
    }
}

/// What was found in records that are no plain events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events that were found.
    pub events: u64,
    /// Events that were cut, found or not.
    pub cut: u64,
    envelopes: [u64; Shape::ALL.len()],
    ignored: [u64; Reason::ALL.len()],
}

impl Outcome {
    pub(super) fn envelope(&mut self, shape: Shape) {
        if let Some(count) = self.envelopes.get_mut(shape as usize) {
            *count += 1;
        }
    }

    /// Counts something that was ignored.
    pub(crate) fn ignore(&mut self, reason: Reason) {
        if let Some(count) = self.ignored.get_mut(reason as usize) {
            *count += 1;
        }
    }

    /// Envelopes of this shape with events in them.
    pub fn envelopes(&self, shape: Shape) -> u64 {
        self.envelopes.get(shape as usize).copied().unwrap_or(0)
    }

    /// What was ignored for this reason.
    pub fn ignored(&self, reason: Reason) -> u64 {
        self.ignored.get(reason as usize).copied().unwrap_or(0)
    }

    /// What was ignored.
    pub fn all_ignored(&self) -> u64 {
        self.ignored.iter().sum()
    }

    /// Adds what another record held.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.cut += other.cut;
        let own = self.envelopes.iter_mut().chain(&mut self.ignored);
        for (own, other) in own.zip(other.envelopes.iter().chain(&other.ignored)) {
            *own += other;
        }
    }
}
