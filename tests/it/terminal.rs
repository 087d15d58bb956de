//! What people meet at a terminal: completions, manual pages, colours, and how far a scan is.
//!
//! A terminal comes from `script` (Debian's bsdutils, on every system of theirs).

use std::{
    ffi::OsStr,
    fs,
    io::{Seek as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    auditwatch::{command, run},
    corpus::path as corpus,
};

/// What a program says of a text on its standard input, and whether it likes it; `None` when the
/// program is not installed.
fn asked(program: &str, args: &[&str], text: &str) -> Option<(bool, String)> {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    input.rewind().unwrap();
    let ended = Command::new(program)
        .args(args)
        .stdin(input)
        .output()
        .ok()?;
    let output = String::from_utf8_lossy(&ended.stderr) + String::from_utf8_lossy(&ended.stdout);
    Some((ended.status.success(), output.into_owned()))
}

#[test]
fn every_shell_gets_completions_it_can_read() {
    for (shell, args) in [
        ("bash", &["-n"] as &[&str]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
        ("elvish", &["-compileonly", "/dev/stdin"]),
        ("powershell", &[]),
    ] {
        let ran = run(["completions", shell]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{shell}");
        for word in ["scan", "fail-on-findings", "print-config", "html"] {
            assert!(
                ran.out.contains(word) || (shell == "powershell" || shell == "elvish"),
                "{shell}: {word}"
            );
        }
        if !args.is_empty()
            && let Some((fine, output)) = asked(shell, args, &ran.out)
        {
            assert!(fine, "{shell}: {output}");
        }
    }
    assert_eq!(run(["completions", "sh"]).code, 2);
}

#[test]
fn bash_completes_what_is_typed() {
    let script = run(["completions", "bash"]).out
        + "COMP_WORDS=(auditwatch scan --output ''); COMP_CWORD=3\n\
           _auditwatch auditwatch '' --output\n\
           echo \"${COMPREPLY[@]}\"\n";
    let (fine, output) = asked("bash", &["--norc"], &script).expect("bash is installed");
    assert!(
        fine && output.contains("table json ndjson findings html"),
        "{output}"
    );
}

#[test]
fn there_is_a_page_of_the_manual_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    let ran = run(["man".as_ref(), pages.as_os_str()]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));
    let mut names: Vec<_> = fs::read_dir(&pages)
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands = [
        "auditwatch-compare.1",
        "auditwatch-completions.1",
        "auditwatch-components.1",
        "auditwatch-explain.1",
        "auditwatch-health.1",
        "auditwatch-man.1",
        "auditwatch-print-config.1",
        "auditwatch-redeliver.1",
        "auditwatch-replay.1",
        "auditwatch-rules-check.1",
        "auditwatch-rules-list.1",
        "auditwatch-rules-show.1",
        "auditwatch-rules-test.1",
        "auditwatch-rules.1",
        "auditwatch-scan.1",
        "auditwatch-validate.1",
        "auditwatch.1",
    ];
    assert_eq!(names, commands);
    let main = run(["man"]);
    assert_eq!(main.code, 0);
    assert!(main.out.contains(".SH NAME\nauditwatch"), "{}", main.out);

    let scan = fs::read_to_string(pages.join("auditwatch-scan.1")).unwrap();
    for line in run(["scan", "--help"]).out.lines() {
        if let Some(flag) = line.trim_start().strip_prefix("--") {
            let flag = flag.split([' ', '[', '=']).next().unwrap();
            let flag = format!("\\-\\-{}", flag.replace('-', "\\-"));
            assert!(scan.contains(&flag), "{flag}");
        }
    }
    for name in names {
        let page = fs::read_to_string(pages.join(&name)).unwrap();
        if let Some((fine, output)) = asked("mandoc", &["-T", "lint", "-W", "error"], &page) {
            assert!(fine, "{name}: {output}");
        }
        if let Some((fine, output)) = asked("groff", &["-man", "-ww", "-z"], &page) {
            assert!(fine && output.is_empty(), "{name}: {output}");
        }
    }
    // A file in the way is an error that names it.
    let ran = run(["man".as_ref(), pages.join("auditwatch.1").as_os_str()]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("cannot write manual pages into"),
        "{}",
        ran.err
    );
}

/// Runs the binary on a terminal, behind `before` and with `after` on its command line; all that
/// the terminal shows.
fn on_a_terminal(before: &str, args: &[&OsStr], after: &str, variables: &[(&str, &str)]) -> String {
    let words: Vec<_> = [command([] as [&str; 0]).get_program()]
        .iter()
        .chain(args)
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let line = format!("{before} {} {after}", words.join(" "));
    let ended = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm-256color")
        .envs(variables.iter().copied())
        .output()
        .expect("script is installed");
    String::from_utf8(ended.stdout).unwrap()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let file = corpus("kube-hunter.ndjson.gz");
    let scan = |flags: &[&'static str]| -> Vec<&OsStr> {
        let flags = flags.iter().map(|flag| OsStr::new(*flag));
        [OsStr::new("scan"), file.as_os_str()]
            .into_iter()
            .chain(flags)
            .collect()
    };
    for (args, variables, coloured) in [
        (scan(&[]), &[] as &[(&str, &str)], true),
        (scan(&["--color", "never"]), &[], false),
        (scan(&[]), &[("NO_COLOR", "1")], false),
        (scan(&[]), &[("TERM", "dumb")], false),
        (scan(&["--color", "always"]), &[("NO_COLOR", "1")], true),
        (vec!["--help".as_ref()], &[], true),
        (vec!["--help".as_ref()], &[("NO_COLOR", "1")], false),
        (vec!["scan".as_ref(), "--bad".as_ref()], &[], true),
        (
            vec!["scan".as_ref(), "--bad".as_ref()],
            &[("NO_COLOR", "1")],
            false,
        ),
    ] {
        let shown = on_a_terminal("", &args, "", variables);
        assert!(shown.len() > 100, "{args:?}: {shown}");
        assert_eq!(
            shown.contains('\u{1b}'),
            coloured,
            "{args:?} {variables:?}: {shown:?}"
        );
    }
    // Not on a terminal: only when asked for, and nothing but colour is added.
    let plain = run(scan(&[]));
    assert!(!plain.out.contains('\u{1b}'));
    let coloured = run(scan(&["--color", "always"])).out;
    let bare = ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[2m"]
        .iter()
        .fold(coloured.clone(), |text, code| text.replace(code, ""));
    assert!(coloured != bare && bare == plain.out, "{coloured}");
}

#[test]
fn our_log_has_colours_only_where_they_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let here = |name: &str| folder.path().join(name).display().to_string();
    fs::write(
        &config,
        format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:0'}}}}}}}}\n\
             processors: {{detection: }}\n\
             exporters: {{file: {{path: '{}'}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{logs: {{receivers: [otlp], processors: [detection], exporters: [file]}}}}\n",
            here("out")
        ),
    )
    .unwrap();
    for (variables, coloured) in [
        (&[] as &[(&str, &str)], true),
        (&[("NO_COLOR", "1")], false),
    ] {
        let args = ["--config".as_ref(), config.as_os_str()];
        let shown = on_a_terminal("timeout 2", &args, "", variables);
        assert!(shown.contains("INFO"), "{shown}");
        assert_eq!(
            shown.contains('\u{1b}'),
            coloured,
            "{variables:?}: {shown:?}"
        );
    }
}

#[test]
fn a_long_scan_says_how_far_it_is_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A pipe that is slower than the patience: no length, so no percentage.
    let slow = folder.path().join("slow");
    let script = format!(
        "mkfifo '{0}'; (echo '{1}'; sleep 0.8; echo '{1}'; sleep 0.3; echo '{1}') > '{0}' &",
        slow.display(),
        r#"{"verb":"get","user":{},"sourceIPs":[]}"#
    );
    let started = Command::new("bash").args(["-c", &script]).status().unwrap();
    assert!(started.success());
    let out = folder.path().join("out");
    let redirect = format!("> '{}'", out.display());
    let shown = on_a_terminal("", &["scan".as_ref(), slow.as_os_str()], &redirect, &[]);
    assert!(shown.contains(" read, "), "{shown:?}");
    let end = shown.rsplit(" read, ").next().unwrap();
    assert!(end.contains("\u{1b}[2K"), "the line is cleared: {shown:?}");
    let table = fs::read_to_string(&out).unwrap();
    assert_eq!(
        table,
        "no address with more than 5 requests in one window among 3 events\n"
    );

    // What is quick shows nothing.
    let quick: &Path = &corpus("kube-hunter.ndjson.gz");
    let shown = on_a_terminal(
        "",
        &["scan".as_ref(), quick.as_os_str()],
        "> /dev/null",
        &[],
    );
    assert_eq!(shown, "");
}
