//! Rules in Sigma 2: files, folders and shipped rules to detections.
//!
//! Each construct is either supported or refused with its file, line and column: nothing is ignored
//! that would change what matches. `reader` reads values with their places, `document` one rule
//! or correlation, `head` its metadata, `selection` and `condition` its match, `custom` the keys
//! that Sigma does not have, `labels` and `cases` two of them; `link` joins rules and correlations.

mod blind_spot;
mod cases;
mod condition;
mod custom;
mod derive;
mod document;
mod duration;
mod head;
mod labels;
mod link;
mod mode;
mod parameters;
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
    reader::{Parameters, Reader, Scalar, hint, quoted},
    sources::Source,
};
use super::{
    model::Detection,
    settings::{Rule, Semantics, UNAUTHORIZED},
    shipped,
    switches::Switches,
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
    let detections = load_all(names, settings)?.detections();
    check_sources(&detections, names)?;
    Ok(detections)
}

/// The detections of a pipeline: those of scans, if they are wanted, the other shipped ones that are
/// turned on, and those that are named. A rule that is named takes the place of the shipped one with
/// its id.
///
/// # Errors
/// All problems, by file and line. No detection at all is one.
pub fn pipeline(
    settings: &Rule,
    switches: &Switches,
    names: &[String],
) -> Result<Vec<Arc<Detection>>, Vec<Problem>> {
    let mut detections = Vec::new();
    let on = switches.under(settings);
    if on.scanning {
        let follow_up = i64::try_from(on.follow_up.as_micros()).unwrap_or(i64::MAX);
        let scans = scans(settings).into_iter().map(Arc::unwrap_or_clone);
        detections.extend(scans.map(|scan| Arc::new(scan.following_up(follow_up))));
    }
    let scans = detections.len();
    detections.extend(derived(settings, &on.derived()));
    let shipped = on.shipped().into_iter();
    let shipped = shipped
        .filter_map(shipped::file)
        .map(Source::shipped)
        .collect();
    let shipped = Loader::new(settings, Vec::new()).load(shipped)?;
    detections.extend(shipped.detections());
    if on.blind_spots {
        detections.extend(blind_spots(settings)?);
    }
    for detection in load_all(names, settings)?.detections() {
        let id = &detection.annotations.id;
        let known = detections
            .iter()
            .position(|known| known.annotations.id == *id);
        if let Some(own) = known.filter(|known| *known >= scans)
            && let Some(place) = detections.get_mut(own)
        {
            *place = detection;
            continue;
        }
        if known.is_some() {
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
    check_sources(&detections, names)?;
    Ok(detections)
}

/// A detection that takes the requests of another one needs it beside it.
fn check_sources(detections: &[Arc<Detection>], names: &[String]) -> Result<(), Vec<Problem>> {
    let is_missing = |detection: &&Arc<Detection>| {
        detection.derivation.as_ref().is_some_and(|derivation| {
            let mut others = detections.iter();
            !others.any(|other| other.is_source_of(derivation))
        })
    };
    let missing = detections.iter().filter(is_missing);
    let problems = missing.filter_map(|detection| {
        let source = &detection.derivation.as_ref()?.source;
        Some(Problem {
            file: names.join(", "),
            line: 0,
            column: 0,
            text: format!(
                "the rule {} takes the requests that {} counts, which is not there: name it as well",
                detection.name(),
                source.name()
            ),
        })
    });
    let problems: Vec<_> = problems.collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
    }
}

/// The rules about the feed of clusters that are there without being named: with native semantics
/// all that the settings make sense of.
///
/// # Errors
/// All problems, by file and line.
pub fn blind_spots(settings: &Rule) -> Result<Vec<Arc<Detection>>, Vec<Problem>> {
    if settings.semantics != Semantics::Native {
        return Ok(Vec::new());
    }
    let counts = |code| settings.wanted_codes().contains(&code);
    let names = shipped::BLIND_SPOTS.iter().filter(|name| {
        // Without 403 among the codes none is ever counted.
        **name != "unauthorized_only" || counts(401) && counts(403)
    });
    let names: Vec<_> = names.map(|name| (*name).to_owned()).collect();
    load(&names, settings)
}

/// The detections of scans that these settings describe: one, or two where 401 has a threshold of
/// its own.
pub fn scans(settings: &Rule) -> Vec<Arc<Detection>> {
    let Some(threshold) = settings.own_threshold_401() else {
        return vec![Arc::new(Detection::of(settings))];
    };
    let with = |codes: Vec<u16>, threshold| Rule {
        threshold,
        codes,
        ..settings.clone()
    };
    let others = settings
        .codes
        .iter()
        .copied()
        .filter(|code| *code != UNAUTHORIZED);
    let others = with(others.collect(), settings.threshold);
    let own = with(vec![UNAUTHORIZED], threshold);
    let mut detections = Vec::new();
    if !others.codes.is_empty() {
        detections.push(Arc::new(Detection::of(&others)));
    }
    // As in `Detection::of`, a test holds that the file loads.
    let own = scan_of("scanning-401.yaml", &own).unwrap_or_default();
    detections.push(Arc::new(own));
    detections
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
    scan_of(shipped::scan(settings.semantics), settings)
}

/// The detections of these shipped files that take the requests which the detection of scans has
/// counted: of networks, of addresses over days, and of peers. The settings of the first hold for
/// all.
pub fn derived(settings: &Rule, files: &[&str]) -> Vec<Arc<Detection>> {
    let files = files.iter().filter_map(|file| shipped::file(file));
    let sources: Vec<_> = files.map(Source::shipped).collect();
    let mut detections = Vec::new();
    if sources.is_empty() {
        return detections;
    }
    // The shipped files load with any settings, which a test holds.
    let loaded = Loader::new(settings, Vec::new()).load(sources);
    for detection in loaded.map(|loaded| loaded.detections()).unwrap_or_default() {
        let mut detection = Detection::clone(&detection);
        if let Some(derivation) = &mut detection.derivation {
            let source = as_set(Detection::clone(&derivation.source), settings);
            detection
                .annotations
                .search
                .clone_from(&source.annotations.search);
            derivation.source = Arc::new(source);
            detections.push(Arc::new(detection));
        }
    }
    detections
}

/// The detection of scans in this shipped file.
fn scan_of(file: &str, settings: &Rule) -> Option<Detection> {
    let shipped = shipped::file(file)?;
    let mut loader = Loader::new(settings, Vec::new());
    loader.scan = shipped.file;
    let loaded = loader.load(vec![Source::shipped(shipped)]).ok()?;
    let detection = Detection::clone(&*loaded.detections().pop()?);
    Some(as_set(detection, settings))
}

/// The detection of scans with what follows from its settings as a whole.
fn as_set(mut detection: Detection, settings: &Rule) -> Detection {
    // Stored with findings of earlier versions.
    detection.fingerprint = settings.fingerprint();
    detection.annotations.search = parameters::search(settings);
    detection
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
    /// The shipped file whose parameters are settings.
    scan: &'static str,
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
            scan: shipped::scan(settings.semantics),
        }
    }

    fn load(mut self, sources: Vec<Source>) -> Result<Loaded, Vec<Problem>> {
        let mut queue: std::collections::VecDeque<_> = sources.into();
        // What is loaded only because another rule takes its requests reports nothing.
        let mut named = None;
        while let Some(source) = queue.pop_front() {
            for taken in self.add(&source) {
                queue.push_back(taken);
            }
            if queue.is_empty() && named.is_none() {
                named = Some(self.documents.len());
                queue.extend(self.missing_sources());
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
        let named = named.unwrap_or(usize::MAX);
        let rules = self.documents.into_iter().zip(linked).enumerate();
        let rules = rules.filter_map(|(at, (document, linked))| {
            let Linked { detection, reports } = linked?;
            Some(LoadedRule {
                detection: Arc::new(detection),
                reports: reports && at < named,
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

    /// The shipped files of correlations whose requests are taken and that are not loaded.
    fn missing_sources(&self) -> Vec<Source> {
        let mut files: Vec<&shipped::Shipped> = Vec::new();
        for document in &self.documents {
            let document::Body::Correlation(correlation) = &document.body else {
                continue;
            };
            for (name, _) in &correlation.rules {
                let mut names = self.documents.iter().flat_map(|one| &one.names);
                if document.custom.derive.is_some()
                    && !names.any(|(known, _)| known == name)
                    && let Some(shipped) = shipped::named(name)
                    && !files.contains(&shipped)
                {
                    files.push(shipped);
                }
            }
        }
        files.into_iter().map(Source::shipped).collect()
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
        let is_of_scans = source.file.ends_with(self.scan)
            || shipped::derived(self.settings.semantics)
                .iter()
                .any(|file| source.file.ends_with(file));
        if source.is_shipped() && is_of_scans {
            for (name, values) in parameters::settings(self.settings) {
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
