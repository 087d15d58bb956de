//! Rules in Sigma 2: files, folders and shipped rules to detections.
//!
//! Each construct is either supported or refused with its file, line and column: nothing is ignored
//! that would change what matches. `reader` reads values with their places, `document` one rule
//! or correlation, `head` its metadata, `selection` and `condition` its match, `custom` the keys
//! that Sigma does not have, `labels` and `cases` two of them; `link` joins rules and correlations.

mod cases;
mod condition;
mod custom;
mod document;
mod duration;
mod head;
mod labels;
mod link;
mod mode;
mod problem;
mod reader;
mod selection;
mod sources;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

pub use cases::{Case, Expect};
pub use mode::Mode;
pub use problem::{Problem, Problems};

use self::{
    document::Document,
    link::{Linked, Linker},
    reader::{Parameters, Reader, Scalar, Typed, hint, quoted},
    sources::Source,
};
use super::{
    model::Detection,
    settings::{Rule, Semantics, Who},
    shipped,
};
use crate::yaml::{self, Mark};

/// Values of one file, aliases counted as what they hold.
const MOST_VALUES: usize = 100_000;
/// Rules that are loaded together.
const MOST_RULES: usize = 5000;
/// Problems that are shown; more than these are rarely read.
const MOST_PROBLEMS: usize = 1000;

/// Rules that were loaded.
#[derive(Debug, Default)]
pub struct Loaded {
    /// In the order of the files and of the documents in them.
    pub rules: Vec<LoadedRule>,
    /// What may be meant otherwise.
    pub warnings: Vec<Problem>,
}

/// One rule or correlation.
#[derive(Debug)]
pub struct LoadedRule {
    /// What it became.
    pub detection: Arc<Detection>,
    /// Whether it makes findings of its own. A rule that only correlations count makes none.
    pub reports: bool,
    /// Its test events.
    pub cases: Vec<Case>,
    /// Its file.
    pub file: String,
    /// The line of the file where it begins.
    pub line: usize,
}

impl Loaded {
    /// The detections that make findings.
    pub fn detections(&self) -> Vec<Arc<Detection>> {
        let rules = self.rules.iter().filter(|rule| rule.reports);
        rules.map(|rule| Arc::clone(&rule.detection)).collect()
    }
}

impl Detection {
    /// The detection of scans that these settings describe.
    pub fn of(settings: &Rule) -> Self {
        let lock = || SCANS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|(of, _)| of == settings).cloned();
        if let Some((_, detection)) = known {
            return detection;
        }
        // The shipped files load with any settings, which a test holds. If one did not, nothing
        // would match.
        let detection = scan(settings).unwrap_or_default();
        let mut known = lock();
        if known.len() < MOST_SCANS {
            known.push((settings.clone(), detection.clone()));
        }
        detection
    }
}

/// Loads rules by name or identifier (shipped ones), files, and folders with all `.yml` and `.yaml`
/// files in them.
///
/// # Errors
/// All problems, by file and line.
pub fn load(names: &[String], settings: &Rule) -> Result<Vec<Arc<Detection>>, Vec<Problem>> {
    Ok(load_all(names, settings)?.detections())
}

/// The detections of a pipeline: that of scans, if it is wanted, and those that are named.
///
/// # Errors
/// All problems, by file and line. No detection at all is one.
pub fn pipeline(
    settings: &Rule,
    scanning: bool,
    names: &[String],
) -> Result<Vec<Arc<Detection>>, Vec<Problem>> {
    let mut detections = Vec::new();
    if scanning {
        detections.push(Arc::new(Detection::of(settings)));
    }
    for detection in load(names, settings)? {
        let id = &detection.annotations.id;
        if detections.iter().any(|known| known.annotations.id == *id) {
            return Err(vec![Problem {
                file: names.join(", "),
                line: 0,
                column: 0,
                text: format!(
                    "the rule {} is there already as the detection of scans: remove it, or set \
                     scanning: false",
                    detection.name()
                ),
            }]);
        }
        detections.push(detection);
    }
    Ok(detections)
}

/// The same with tests and warnings.
///
/// # Errors
/// All problems, by file and line.
pub fn load_all(names: &[String], settings: &Rule) -> Result<Loaded, Vec<Problem>> {
    let (sources, problems) = sources::find(names);
    Loader::new(settings, problems).load(sources)
}

/// The same in another mode.
///
/// # Errors
/// All problems, by file and line.
pub fn load_in(mode: Mode, names: &[String], settings: &Rule) -> Result<Loaded, Vec<Problem>> {
    let (sources, problems) = sources::find(names);
    let mut loader = Loader::new(settings, problems);
    loader.mode = mode;
    loader.load(sources)
}

/// Names of all shipped rules that make findings.
pub fn shipped_names() -> Vec<String> {
    sources::names()
}

/// Loads one text as if it were a file of this name.
///
/// # Errors
/// All problems, by file and line.
pub fn load_text(file: &str, text: &str, settings: &Rule) -> Result<Loaded, Vec<Problem>> {
    let source = Source {
        file: file.to_owned(),
        text: text.to_owned(),
        parameters: BTreeMap::new(),
        taken_at: None,
    };
    Loader::new(settings, Vec::new()).load(vec![source])
}

/// The detection of scans that these settings describe; `None` if its file did not load, which a
/// test rules out.
pub(crate) fn scan(settings: &Rule) -> Option<Detection> {
    let shipped = shipped::file(shipped::scan(settings.semantics))?;
    let loaded = Loader::new(settings, Vec::new())
        .load(vec![Source::shipped(shipped)])
        .ok()?;
    let mut detection = Detection::clone(&*loaded.detections().pop()?);
    // Stored with findings of earlier versions.
    detection.fingerprint = settings.fingerprint();
    detection.annotations.search = search(settings);
    Some(detection)
}

/// Detections of scans that were loaded, by their settings: the same settings are asked for at each
/// start of a part of a pipeline.
static SCANS: Mutex<Vec<(Rule, Detection)>> = Mutex::new(Vec::new());
/// How many of them are remembered.
const MOST_SCANS: usize = 8;

struct Loader<'s> {
    settings: &'s Rule,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    files: Vec<String>,
    documents: Vec<Document>,
    mode: Mode,
}

impl<'s> Loader<'s> {
    fn new(settings: &'s Rule, problems: Vec<Problem>) -> Self {
        Self {
            settings,
            problems,
            warnings: Vec::new(),
            files: Vec::new(),
            documents: Vec::new(),
            mode: Mode::Run,
        }
    }

    fn load(mut self, sources: Vec<Source>) -> Result<Loaded, Vec<Problem>> {
        let mut queue: std::collections::VecDeque<_> = sources.into();
        while let Some(source) = queue.pop_front() {
            for taken in self.add(&source) {
                queue.push_back(taken);
            }
            if self.documents.len() > MOST_RULES {
                self.problems.push(Problem {
                    file: self.files.last().cloned().unwrap_or_default(),
                    line: 0,
                    column: 0,
                    text: format!("more than {MOST_RULES} rules: load fewer of them"),
                });
                break;
            }
        }
        let mut linker = Linker {
            settings: self.settings,
            mode: self.mode,
            problems: Vec::new(),
        };
        let linked = linker.link(&self.documents);
        let problems: Vec<_> = linker
            .problems
            .into_iter()
            .map(|one| self.problem(one))
            .collect();
        self.problems.extend(problems);
        self.problems.sort();
        self.problems.dedup();
        self.problems.truncate(MOST_PROBLEMS);
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.warnings.sort();
        let files = self.files;
        let rules = self.documents.into_iter().zip(linked);
        let rules = rules.filter_map(|(document, linked)| {
            let Linked { detection, reports } = linked?;
            Some(LoadedRule {
                detection: Arc::new(detection),
                reports,
                cases: document.custom.cases,
                file: files.get(document.mark.source).cloned().unwrap_or_default(),
                line: document.mark.line,
            })
        });
        Ok(Loaded {
            rules: rules.collect(),
            warnings: self.warnings,
        })
    }

    fn problem(&self, problem: yaml::Problem) -> Problem {
        let Mark {
            source,
            line,
            column,
        } = problem.mark;
        Problem {
            file: self.files.get(source).cloned().unwrap_or_default(),
            line,
            column,
            text: problem.text,
        }
    }

    /// Reads the documents of one file. Shipped rules that it takes come after it.
    fn add(&mut self, source: &Source) -> Vec<Source> {
        let number = self.files.len();
        self.files.push(source.file.clone());
        let mut problems = Vec::new();
        let documents = match yaml::documents(&source.text, number, MOST_VALUES, &mut problems) {
            Ok(documents) => documents,
            Err(problem) => {
                problems.push(problem);
                let problems: Vec<_> = problems.into_iter().map(|one| self.problem(one)).collect();
                self.problems.extend(problems);
                return Vec::new();
            }
        };
        let mut reader = Reader {
            documents: &documents,
            parameters: Parameters::new(),
            problems: RefCell::new(problems),
            warnings: RefCell::default(),
        };
        if documents.roots.is_empty() {
            reader.fail(Mark::start_of(number), "no rule is in this file");
        }
        reader.parameters = custom::parameters(&reader);
        self.fill(source, &mut reader);
        let mut taken = Vec::new();
        for root in &documents.roots {
            if let Some(one) = custom::taken(&reader, root) {
                taken.extend(take(&one, &reader));
            } else if let Some(document) = reader.document(root) {
                self.documents.push(document);
            }
        }
        let (problems, warnings) = (reader.problems.into_inner(), reader.warnings.into_inner());
        let problems: Vec<_> = problems.into_iter().map(|one| self.problem(one)).collect();
        let warnings: Vec<_> = warnings.into_iter().map(|one| self.problem(one)).collect();
        self.problems.extend(problems);
        self.warnings.extend(warnings);
        taken
    }

    /// Puts in the parameters of another file, and the settings for the detection of scans.
    fn fill(&self, source: &Source, reader: &mut Reader<'_>) {
        if source.is_shipped()
            && source
                .file
                .ends_with(shipped::scan(self.settings.semantics))
        {
            for (name, values) in settings(self.settings) {
                if let Some(parameter) = reader.parameters.get_mut(name) {
                    let mark = Mark::start_of(self.files.len().saturating_sub(1));
                    *parameter = values
                        .into_iter()
                        .map(|value| Scalar { value, mark })
                        .collect();
                }
            }
        }
        if self.mode == Mode::Look {
            for (name, values, mark) in custom::test_parameters(reader) {
                if let Some(parameter) = reader.parameters.get_mut(&name)
                    && parameter.is_empty()
                {
                    *parameter = values;
                    reader.warn(
                        mark,
                        format!(
                            "the parameter {name} is empty: to run, the rule needs a list, given as \
                             custom: {{rule: NAME, parameters: {{{name}: [...]}}}} in a file of yours"
                        ),
                    );
                }
            }
        }
        let given = &source.parameters;
        for (name, values) in given {
            if let Some(parameter) = reader.parameters.get_mut(name) {
                parameter.clone_from(values);
                continue;
            }
            let known: Vec<&str> = reader.parameters.keys().map(String::as_str).collect();
            let hint = hint(name, &known);
            let mark = source.taken_at.unwrap_or(Mark::start_of(0));
            reader.fail(
                mark,
                format!(
                    "parameters: this rule has no parameter {}{hint}",
                    quoted(name)
                ),
            );
        }
    }
}

/// The shipped rule that a document takes.
fn take(taken: &custom::Taken, reader: &Reader<'_>) -> Option<Source> {
    let Some(shipped) = shipped::named(&taken.rule) else {
        let names = sources::names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = hint(&taken.rule, &known);
        reader.fail(
            taken.mark,
            format!(
                "rule: no shipped rule is named {}{hint}",
                quoted(&taken.rule)
            ),
        );
        return None;
    };
    Some(Source {
        parameters: taken.parameters.clone(),
        taken_at: Some(taken.mark),
        ..Source::shipped(shipped)
    })
}

/// The Splunk search for the events that these settings count.
fn search(settings: &Rule) -> String {
    let who = match (settings.semantics, settings.who) {
        (Semantics::Escu, _) | (_, Who::Group) => {
            r#""user.groups{}"="system:unauthenticated""#.to_owned()
        }
        (Semantics::Native, Who::Any) => concat!(
            r#"("user.groups{}"="system:unauthenticated" OR "user.username"="system:anonymous""#,
            r#" OR NOT "user.username"=*)"#
        )
        .to_owned(),
    };
    let codes: Vec<_> = settings
        .wanted_codes()
        .iter()
        .map(|code| format!(r#""responseStatus.code"={code}"#))
        .collect();
    let codes = if codes.len() == 1 {
        codes.concat()
    } else {
        format!("({})", codes.join(" OR "))
    };
    format!("`kube_audit` {who} {codes}")
}

/// The settings that are parameters of the detection of scans.
fn settings(settings: &Rule) -> Vec<(&'static str, Vec<Typed>)> {
    let number = |number: u64| {
        let text = number.to_string();
        #[expect(clippy::cast_precision_loss, reason = "the spelling is what is read")]
        let value = number as f64;
        Typed::Number(value, text)
    };
    let length = |micros: i64| vec![Typed::Text(format!("{micros}us"))];
    let word = |word: String| vec![Typed::Text(word)];
    let mut all = vec![
        ("threshold", vec![number(settings.threshold)]),
        ("window", length(settings.window)),
        ("lateness", length(settings.lateness)),
    ];
    match settings.semantics {
        Semantics::Native => {
            let codes = settings.codes.iter().map(|code| number(u64::from(*code)));
            all.push(("codes", codes.collect()));
            all.push(("who", word(settings.who.to_string())));
        }
        Semantics::Escu => {
            // The same windows, whatever the sign of the offset.
            let offset = settings.window_offset.rem_euclid(settings.window.max(1));
            all.push(("window_offset", length(offset)));
            all.push(("missing_city", word(settings.missing_city.to_string())));
        }
    }
    all
}
