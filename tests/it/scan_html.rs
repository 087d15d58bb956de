//! `auditwatch scan --output html`: the page says what `--output json` says, and nothing in it is
//! alive. What a browser makes of it is looked at by `tests/browser/check.sh`.

use std::{fmt::Write as _, fs, path::Path};

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    auditwatch::{Ran, run},
    corpus::path as corpus,
};

fn scan(flags: &[&str], file: &Path) -> Ran {
    let flags = flags.iter().map(AsRef::as_ref);
    run(["scan".as_ref()]
        .into_iter()
        .chain(flags)
        .chain([file.as_os_str()]))
}

fn page(flags: &[&str], file: &Path) -> String {
    let ran = scan(&[&["--output", "html"], flags].concat(), file);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{flags:?}");
    ran.out
}

fn event(second: usize, sources: &[String], text: &str) -> Value {
    json!({
        "auditID": format!("{text}{second}"),
        "requestURI": format!("{text}?{second}"),
        "verb": text,
        "user": {"username": "system:anonymous", "groups": ["system:unauthenticated"]},
        "sourceIPs": sources,
        "userAgent": format!("{text}{second}"),
        "responseStatus": {"code": 403, "reason": format!("{text}{second}"), "message": text},
        "requestReceivedTimestamp": format!("2026-11-25T10:{:02}:{:02}Z", second / 60, second % 60),
    })
}

fn log(events: impl IntoIterator<Item = Value>) -> String {
    events.into_iter().fold(String::new(), |mut text, event| {
        writeln!(text, "{event}").unwrap();
        text
    })
}

/// The rows of the table of addresses, each as the source has it.
fn table(page: &str) -> Vec<&str> {
    let Some((_, table)) = page.split_once("<h2 id=\"addresses\">") else {
        return Vec::new();
    };
    let (table, _) = table.split_once("</table>").unwrap();
    table.split("<tr><th class=\"address\"").skip(1).collect()
}

#[test]
fn the_page_has_the_numbers_of_the_json() {
    let geo = corpus("test-geo.mmdb");
    let geo = ["--geo-db", geo.to_str().unwrap()];
    for name in ["kube-hunter", "scenario-1", "cloud-style", "webhook-1"] {
        for flags in [
            &[] as &[&str],
            &["--all"],
            &["--codes", "403", "--threshold", "2"],
            &geo,
            &["--semantics", "escu"],
            &[geo[0], geo[1], "--semantics", "escu"],
        ] {
            let file = corpus(&format!("{name}.ndjson.gz"));
            let page = page(flags, &file);
            let rows = scan(&[&["--output", "json"], flags].concat(), &file).out;
            let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
            let shown = table(&page);
            assert_eq!(shown.len(), rows.len(), "{name} {flags:?}");
            for row in &rows {
                let address = format!("<bdi>{}</bdi>", row["src_ip"].as_str().unwrap());
                let mut wanted = vec![address, format!("\"Requests\">{}<", row["count"])];
                for (code, count) in row["count_by_code"].as_object().into_iter().flatten() {
                    wanted.push(format!("data-label=\"{code}\">{count}<"));
                }
                for (label, key) in [
                    ("First", "first_time"),
                    ("Last", "last_time"),
                    ("Above since", "alert_at"),
                    ("Window from", "window_start"),
                ] {
                    if let Some(time) = row[key].as_str() {
                        wanted.push(format!("\"{label}\"><time datetime=\"{time}\">"));
                    }
                }
                if let Some(most) = row.get("max_in_window") {
                    wanted.push(format!("\"Most in window\">{most}<"));
                }
                for place in [&row["Country"], &row["City"]] {
                    let place = place.as_str().filter(|place| !place.is_empty());
                    wanted.extend(place.map(|place| format!("<bdi>{place}</bdi>")));
                }
                assert!(
                    shown
                        .iter()
                        .any(|line| wanted.iter().all(|part| line.contains(part))),
                    "{name} {flags:?}: {wanted:?}"
                );
            }
        }
    }
}

#[test]
fn nothing_in_the_page_is_alive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a<b>&\"\u{202e}'.ndjson");
    let attacks = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\" onclick=\"alert(1)",
        "nul\0 bidi\u{202e} zero\u{200b} esc\u{1b}[2J",
    ];
    let text = attacks.map(|text| log((0..6).map(|at| event(at, &["192.0.2.1".to_owned()], text))));
    fs::write(&file, text.concat()).unwrap();
    for flags in [&[] as &[&str], &["--semantics", "escu"]] {
        let page = page(flags, &file);
        for alive in [
            "<script",
            "<img",
            "onclick=\"",
            " style=\"",
            " src=\"",
            "url(",
            "@import",
            "http:",
            "https:",
        ] {
            assert!(!page.contains(alive), "{alive}");
        }
        for text in [
            "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;",
            "<bdi>nul<span class=\"mark\">\\u{0}</span> bidi<span class=\"mark\">\\u{202e}</span> zero",
            "a&lt;b&gt;&amp;&quot;<span class=\"mark\">\\u{202e}</span>'.ndjson",
        ] {
            assert!(page.contains(text), "{text}");
        }
        let hidden = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
        assert_eq!(page.find(hidden), None);
        // Links lead to places on the page, and attributes hold no text of others.
        let links = page.matches("href=").count();
        assert_eq!(page.matches("href=\"#a").count(), links);

        let (_, style) = page.split_once("<style>").unwrap();
        let (style, _) = style.split_once("</style>").unwrap();
        let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(style));
        let policy = format!(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">"
        );
        assert!(page.contains(&policy), "{policy}");
    }
}

#[test]
fn the_same_log_in_any_order_gives_the_same_page() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let sources: Vec<_> = (1..30)
        .map(|at| vec![format!("192.0.2.{}", at % 7)])
        .collect();
    let mut events: Vec<_> = (0..290)
        .map(|at| event(at, &sources[at % 29], &format!("/{}", at % 13)))
        .collect();
    let mut pages = Vec::new();
    for _ in 0..2 {
        fs::write(&file, log(events.clone())).unwrap();
        for semantics in ["native", "escu"] {
            pages.push(page(&["--semantics", semantics], &file));
        }
        events.reverse();
    }
    assert!(pages[0] == pages[2] && pages[1] == pages[3]);
}

#[test]
fn a_page_without_addresses_says_so_and_what_could_not_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    fs::write(
        &file,
        "{\"verb\":\"get\",\"user\":{},\"sourceIPs\":[]}\nno json\n",
    )
    .unwrap();
    let missing = folder.path().join("missing");
    let ran = scan(&["--output", "html", missing.to_str().unwrap()], &file);
    assert_eq!(ran.code, 2);
    for part in [
        "No address was refused more than 5 times within 1h without being authenticated.",
        "1 event of 2 files",
        "Not everything could be read",
        &format!("cannot read {}: No such file", missing.display()),
        &format!("skipped 1 line that is not JSON: {}:2", file.display()),
        "5572a46a2cb65ba2",
    ] {
        assert!(ran.out.contains(part), "{part}\n{}", ran.out);
    }
    assert!(!ran.out.contains("<h2 id=\"timeline\">"));
}

#[test]
fn thousands_of_addresses_and_long_values_make_no_page_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    // In these semantics every element of sourceIPs makes a row.
    let sources: Vec<_> = (0..5100).map(|at| format!("2001:db8::{at:x}")).collect();
    fs::write(&file, log([event(0, &sources, "/short")])).unwrap();
    let flags = ["--semantics", "escu", "--threshold", "0"];
    let many = page(&flags, &file);
    assert!(many.len() < 8_000_000, "{}", many.len());
    assert!(many.contains("The busiest 5,000 of 5,100 rows"));
    assert!(many.contains("The busiest 500 of 5,100 rows"));

    let long = "x".repeat(1000);
    fs::write(
        &file,
        log((0..100).map(|at| event(at, &sources[..100], &format!("{long}{at}")))),
    )
    .unwrap();
    let heavy = page(&flags, &file);
    assert!(heavy.len() < 20_000_000, "{}", heavy.len());
    assert_eq!(table(&heavy).len(), 100);
    assert!(heavy.contains(" of 100 rows; --output json has all of them."));
    // What is linked to is there.
    let sections = heavy.matches("<details id=").count();
    assert!(sections < 100, "{sections}");
    for at in 1..=100 {
        let (link, target) = (format!("href=\"#a{at}\""), format!("id=\"a{at}\""));
        assert_eq!(heavy.contains(&link), heavy.contains(&target), "{at}");
    }
}
