//! A scraper: `GET /metrics` by hand, and a strict reader of the text format 0.0.4, written from
//! its documentation.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One sample's labels.
pub(crate) type Labels = BTreeMap<String, String>;

/// The values of one scrape.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    /// Families and their types.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) help: BTreeMap<String, String>,
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

impl Scrape {
    /// The sum of the samples of a name that have at least these labels; `None` if there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found: Vec<_> = self
            .samples
            .iter()
            .filter(|(of, at, _)| {
                of == name
                    && labels
                        .iter()
                        .all(|(key, value)| at.get(*key).is_some_and(|found| found == value))
            })
            .map(|(_, _, value)| *value)
            .collect();
        (!found.is_empty()).then(|| found.iter().sum())
    }
}

/// The status line and headers of an answer, and its body.
pub(crate) async fn get(address: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_ascii_lowercase(), body.to_owned())
}

/// Scrapes once.
pub(crate) async fn scrape(address: SocketAddr) -> Scrape {
    let (head, body) = get(address, "GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    parse(&body)
}

/// Reads the text format. Anything that is not exactly that fails the test.
pub(crate) fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut scrape = Scrape::default();
    let mut family = String::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            let known = scrape.help.insert(name.to_owned(), help.to_owned());
            assert!(known.is_none(), "{name} has two helps");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let known = scrape.types.insert(name.to_owned(), kind.to_owned());
            assert!(known.is_none(), "{name} stands in two places");
            name.clone_into(&mut family);
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (name, labels, value) = sample(line);
            let kind = scrape.types.get(&family).map(String::as_str);
            let suffix = name.strip_prefix(&*family).expect(line);
            let good = match kind {
                Some("histogram") => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(good, "{line} is not of {family}");
            assert!(
                seen.insert((name.clone(), labels.clone())),
                "{line} is there twice"
            );
            scrape.samples.push((name, labels, value));
        }
    }
    scrape
}

fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    is_name(name);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"").expect(line);
            is_name(key);
            let mut value = String::new();
            let mut letters = behind.char_indices();
            let end = loop {
                match letters.next().expect(line) {
                    (at, '"') => break at,
                    (_, '\\') => match letters.next().expect(line).1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("escape {c:?} in {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            let known = labels.insert(key.to_owned(), value);
            assert!(known.is_none(), "{key} is there twice in {line}");
            rest = behind.split_at(end + 1).1;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.split_at(1).1;
    }
    let value = rest.strip_prefix(' ').expect(line);
    let value = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().expect(line),
    };
    (name.to_owned(), labels, value)
}

fn is_name(name: &str) {
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    assert!(
        name.chars().all(letter) && !name.starts_with(|c: char| c.is_ascii_digit()),
        "{name:?}"
    );
}
