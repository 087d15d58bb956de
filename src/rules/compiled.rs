//! Compiled expressions, each compiled once: the same rule is loaded again and again, by tests, by
//! `validate` and at each reload, and compiling is nearly all that loading costs.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use regex::{Regex, RegexBuilder, bytes};

/// Bytes of memory that one compiled expression may take.
const EXPRESSION_BYTES: usize = 1 << 20;
/// Bytes of memory that one compiled set may take, and its cache.
const SET_BYTES: usize = 4 << 20;
/// Expressions that are remembered; what is compiled later is not.
const MOST: usize = 256;

type Memory<K, V> = LazyLock<Mutex<HashMap<K, V>>>;

static EXPRESSIONS: Memory<String, Regex> = LazyLock::new(Mutex::default);
static PATTERNS: Memory<String, bytes::Regex> = LazyLock::new(Mutex::default);
static SETS: Memory<Vec<String>, bytes::RegexSet> = LazyLock::new(Mutex::default);

/// An expression over text.
///
/// # Errors
/// When it is invalid or needs too much memory.
pub(super) fn expression(text: &str) -> Result<Regex, regex::Error> {
    remembered(&EXPRESSIONS, text.to_owned(), |text| {
        RegexBuilder::new(text)
            .size_limit(EXPRESSION_BYTES)
            .dfa_size_limit(EXPRESSION_BYTES)
            .build()
    })
}

/// An expression over bytes.
///
/// # Errors
/// When it is invalid or needs too much memory.
pub(super) fn pattern(text: &str) -> Result<bytes::Regex, regex::Error> {
    remembered(&PATTERNS, text.to_owned(), |text| {
        bytes::RegexBuilder::new(text)
            .size_limit(EXPRESSION_BYTES)
            .dfa_size_limit(EXPRESSION_BYTES)
            .build()
    })
}

/// Several expressions over bytes, looked for at once.
///
/// # Errors
/// When one is invalid, or they need too much memory.
pub(super) fn set(texts: Vec<String>) -> Result<bytes::RegexSet, regex::Error> {
    remembered(&SETS, texts, |texts| {
        bytes::RegexSetBuilder::new(texts)
            .size_limit(SET_BYTES)
            .dfa_size_limit(SET_BYTES)
            .build()
    })
}

fn remembered<K: Eq + std::hash::Hash, V: Clone>(
    memory: &Memory<K, V>,
    key: K,
    compile: impl FnOnce(&K) -> Result<V, regex::Error>,
) -> Result<V, regex::Error> {
    let lock = || memory.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(&key) {
        return Ok(known.clone());
    }
    let compiled = compile(&key)?;
    let mut known = lock();
    if known.len() < MOST {
        known.insert(key, compiled.clone());
    }
    Ok(compiled)
}
