//! Settings that are declared: one line for each key of a section.
//!
//! [`settings!`] takes the keys of a section with their form, meaning and place in a settings struct.
//! From these lines follow which keys the section has, how each is read and checked, what
//! `print-config` hides, and the two documents that show every key with its default
//! (`otel-config/auditwatch.yaml`, docs/components.md). Defaults are those of the struct's `Default`,
//! which the macro writes too where it declares the struct.
use super::{
    forms::Form,
    hints::Hint,
    read::{Place, Section},
};

/// What is known of a key beside its type.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the documents are written by a test")
)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    /// What the key does, for people.
    pub(crate) meaning: &'static str,
    pub(crate) need: Need,
    /// An example value, where there is no default or the default needs an explanation.
    pub(crate) example: Option<&'static str>,
    /// The name of the component that shows the key in the reference file: `tls` of `otlp/tls`.
    pub(crate) shown_in: &'static str,
    /// What the documents call the section whose keys are the same, instead of repeating them.
    pub(crate) like: Option<&'static str>,
    /// Whether no message shows the value, nor `print-config`.
    pub(crate) is_secret: bool,
    /// Whether the value is an address or a path.
    pub(crate) is_place: bool,
}

/// Whether a key must be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Optional,
    /// Within its section.
    Required,
    /// Unless this other key is given.
    RequiredOr(&'static str),
}

impl Fact {
    /// A key that may be left out.
    pub(crate) const fn new(name: &'static str, meaning: &'static str) -> Self {
        Self {
            name,
            meaning,
            need: Need::Optional,
            example: None,
            shown_in: "",
            like: None,
            is_secret: false,
            is_place: false,
        }
    }

    /// It must be given, such as in `example`.
    pub(crate) const fn required(mut self, example: &'static str) -> Self {
        self.need = Need::Required;
        self.example(example)
    }

    /// It must be given unless `other` is.
    pub(crate) const fn required_or(mut self, other: &'static str, example: &'static str) -> Self {
        self.need = Need::RequiredOr(other);
        self.example(example)
    }

    /// The reference file shows it with this value, which is not its default.
    pub(crate) const fn example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    /// It is shown in a component of this name.
    pub(crate) const fn shown_in(mut self, name: &'static str) -> Self {
        self.shown_in = name;
        self
    }

    /// Its keys are those that are shown elsewhere.
    pub(crate) const fn like(mut self, other: &'static str) -> Self {
        self.like = Some(other);
        self
    }

    /// Its value is never shown.
    pub(crate) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// Its value is an address or a path.
    pub(crate) const fn place(mut self) -> Self {
        self.is_place = true;
        self
    }
}

/// The keys of a section, and those of the Collector that it does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) facts: &'static [Fact],
    pub(crate) hints: &'static [Hint],
}

impl Table {
    /// The names of its keys.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.facts.iter().map(|fact| fact.name).collect()
    }

    /// Whether it has a key.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.facts.iter().any(|fact| fact.name == key)
    }

    /// The hint for a key that only the Collector has.
    pub(crate) fn hint(&self, key: &str) -> Option<&'static Hint> {
        self.hints.iter().find(|hint| hint.key == key)
    }
}

/// How one key of the settings `S` is read and shown.
pub(crate) struct Key<S: 'static> {
    pub(crate) read: fn(&Section<'_>, &'static str, &mut S),
    pub(crate) shown: fn(&S) -> (String, Shown),
}

/// A declared section, whose keys make settings `S`.
pub(crate) struct Settings<S: 'static> {
    pub(crate) table: Table,
    /// As many as the table has facts, in the same order.
    pub(crate) keys: &'static [Key<S>],
    pub(crate) default: fn() -> S,
    /// What must hold of several keys together, or is read from several.
    pub(crate) check: fn(&Section<'_>, &mut S),
}

impl<S> Settings<S> {
    /// Reads the section at a place. A key that is not given has its default.
    pub(crate) fn at(&'static self, place: Place<'_>) -> S {
        self.of(&place.section(&self.table))
    }

    /// The same of a section that others look into too.
    pub(crate) fn of(&self, section: &Section<'_>) -> S {
        let mut settings = (self.default)();
        self.fill(section, &mut settings);
        settings
    }

    /// The same into settings whose values are the defaults.
    pub(crate) fn fill(&self, section: &Section<'_>, settings: &mut S) {
        for (fact, key) in self.table.facts.iter().zip(self.keys) {
            if fact.need == Need::Required && section.get(fact.name).is_none() {
                section.fail(format_args!("{} is required", fact.name));
            }
            (key.read)(section, fact.name, settings);
        }
        (self.check)(section, settings);
    }

    /// Its keys, with the values of `settings` as defaults.
    pub(crate) fn entries(&self, settings: &S) -> Vec<Entry> {
        let keys = self.table.facts.iter().zip(self.keys);
        keys.map(|(fact, key)| {
            let (form, shown) = (key.shown)(settings);
            Entry { fact, form, shown }
        })
        .collect()
    }
}

/// A key as the documents show it.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the documents are written by a test")
)]
pub(crate) struct Entry {
    pub(crate) fact: &'static Fact,
    /// What its value looks like; empty where it is a section.
    pub(crate) form: String,
    pub(crate) shown: Shown,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    /// The default, as YAML; empty: none.
    Value(String),
    /// More keys.
    Keys(Vec<Entry>),
    /// A list, whose elements have one of these keys each.
    Elements(Vec<Entry>),
    /// A list, whose elements have all of these keys.
    Items(Vec<Entry>),
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.fact.name == other.fact.name && self.shown == other.shown
    }
}

/// Reads with a form into a part of the settings.
pub(crate) fn read<F: Form>(
    form: &F,
    section: &Section<'_>,
    key: &'static str,
    slot: &mut F::Value,
) {
    form.read(section, key, slot);
}

/// Shows a part of the settings with its form.
pub(crate) fn shown<F: Form>(form: &F, value: &F::Value) -> (String, Shown) {
    (form.describe(), form.shown(value))
}

/// Declares the keys of a section.
///
/// ```text
/// settings! {
///     LIMITS: Limits {
///         keys: Number(1..=1_000_000_000), "Addresses that are tracked at a time.";
///         ...
///     }
///     hints { "max_keys": Use("write keys"); }
///     check limits_fit
/// }
/// ```
///
/// A line is `key: form, "meaning", facts;`. The key is a field of the struct, or of another one with
/// `key => path.of.field: ...`; `=> self` hands the whole struct to a section within. `key by other:
/// form => default, ...` is read by another key, or by the function behind `check`. Facts are the
/// functions of [`Fact`], such as `required("an example")` or `secret`.
///
/// `struct Name { field: Type = default; } SECTION { ... }` declares the struct and its `Default` as
/// well, where a line is `key [Type = default]: form, "meaning", facts;`. The fields before
/// the keys are no keys.
macro_rules! settings {
    (
        $(#[$meta:meta])* $vis:vis struct $type:ident {
            $($(#[$field_meta:meta])* $field:ident: $field_type:ty = $field_default:expr;)*
        }
        $name:ident { $($keys:tt)* } $($rest:tt)*
    ) => {
        settings!(
            @struct [$(#[$meta])*] [$vis] $type
            { $([$(#[$field_meta])*] $field: $field_type = $field_default;)* }
            { $($keys)* }
        );
        settings!($name: $type { $($keys)* } $($rest)*);
    };
    (
        $name:ident: $type:ty {
            $(
                $key:ident $([$key_type:ty = $default:expr])? $(=> $($field:ident).+)? $(by $reader:ident)?:
                $form:expr $(=> $shown:expr)?, $meaning:literal
                $(, $fact:ident $(($($argument:expr),*))?)*;
            )*
        }
        $(hints {
            $($hinted:literal: $advice:ident $(($why:expr))? $(, kept [$($kept:literal),*])?;)*
        })?
        $(check $check:expr)?
    ) => {
        pub(crate) static $name: $crate::config::settings::Settings<$type> =
            $crate::config::settings::Settings {
                table: $crate::config::settings::Table {
                    facts: &[$(
                        $crate::config::settings::Fact::new(stringify!($key), $meaning)
                            $(.$fact($($($argument),*)?))*
                    ),*],
                    hints: &[$($($crate::config::hints::Hint {
                        key: $hinted,
                        advice: $crate::config::hints::Advice::$advice $(($why))?,
                        kept: settings!(@kept $([$($kept),*])?),
                    }),*)?],
                },
                keys: &[$(
                    settings!(@key $type, $key [$($($field).+)?] [$($reader)?] [$form] [$($shown)?])
                ),*],
                default: <$type as Default>::default,
                check: settings!(@check $($check)?),
            };
    };
    (
        @struct [$($meta:tt)*] [$vis:vis] $type:ident
        { $([$($field_meta:tt)*] $field:ident: $field_type:ty = $field_default:expr;)* }
        {
            $(
                $key:ident $([$key_type:ty = $default:expr])? $(=> $($path:ident).+)? $(by $reader:ident)?:
                $form:expr $(=> $shown:expr)?, $meaning:literal
                $(, $fact:ident $(($($argument:expr),*))?)*;
            )*
        }
    ) => {
        $($meta)*
        #[allow(clippy::doc_markdown, reason = "the words are those of the documents")]
        $vis struct $type {
            $($($field_meta)* $vis $field: $field_type,)*
            $($(#[doc = $meaning] $vis $key: $key_type,)?)*
        }

        impl Default for $type {
            fn default() -> Self {
                Self {
                    $($field: $field_default,)*
                    $($($key: $default,)?)*
                }
            }
        }
    };
    (@kept) => { None };
    (@kept [$($kept:literal),*]) => { Some(&[$($kept),*]) };
    (@check) => { |_, _| {} };
    (@check $check:expr) => { $check };
    (@key $type:ty, $key:ident $field:tt [$reader:ident] [$form:expr] []) => {
        settings!(@key $type, $key $field [$reader] [$form] [Default::default()])
    };
    (@key $type:ty, $key:ident $field:tt [$reader:ident] [$form:expr] [$default:expr]) => {
        $crate::config::settings::Key {
            read: |_, _, _| {},
            shown: |_: &$type| $crate::config::settings::shown(&$form, &$default),
        }
    };
    (@key $type:ty, $key:ident [] [] [$form:expr] []) => {
        settings!(@key $type, $key [$key] [] [$form] [])
    };
    (@key $type:ty, $key:ident [self] [] [$form:expr] []) => {
        $crate::config::settings::Key {
            read: |section, key, settings: &mut $type| {
                $crate::config::settings::read(&$form, section, key, settings);
            },
            shown: |settings: &$type| $crate::config::settings::shown(&$form, settings),
        }
    };
    (@key $type:ty, $key:ident [$($field:ident).+] [] [$form:expr] []) => {
        $crate::config::settings::Key {
            read: |section, key, settings: &mut $type| {
                $crate::config::settings::read(&$form, section, key, &mut settings.$($field).+);
            },
            shown: |settings: &$type| {
                $crate::config::settings::shown(&$form, &settings.$($field).+)
            },
        }
    };
}
pub(crate) use settings;
