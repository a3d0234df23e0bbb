//! A subscriber that keeps spans and events.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, set_global_default};
use tracing::{Event, Level, Metadata, Subscriber};

/// A span, or an event.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    pub level: Level,
    pub target: String,
    pub span: bool,
    /// Of spans: it is over.
    pub closed: bool,
    /// All that it may have; `None` if it was never set.
    pub fields: BTreeMap<String, Option<String>>,
    /// The spans around it when it was made, the innermost last.
    pub within: Vec<String>,
    handles: usize,
}

impl Seen {
    /// The value of a field that is set.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.fields.get(field)?.as_deref()
    }
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    entered: Vec<u64>,
}

/// What nobody subscribes to when it is come by first is remembered as that by `tracing`, for all threads. A subscriber that
/// wants everything, and keeps nothing, lets each test's own decide.
pub fn watch_everything() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_global_default(Everything).expect("nobody else sets it"));
}

struct Everything;

impl Subscriber for Everything {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Cheap to clone. For one thread.
#[derive(Clone)]
pub struct Capture {
    level: LevelFilter,
    state: Arc<Mutex<State>>,
}

impl Capture {
    pub fn new(level: LevelFilter) -> Self {
        watch_everything();
        Self { level, state: Arc::default() }
    }

    /// Spans and events of ottla, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn spans(&self, name: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.span && seen.name == name).collect()
    }

    pub fn events(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| !seen.span && seen.target.starts_with("ottla")).collect()
    }

    fn add(
        &self,
        metadata: &Metadata<'_>,
        span: bool,
        values: impl FnOnce(&mut Values<'_>),
        root: bool,
    ) -> u64 {
        let mut fields: BTreeMap<_, _> =
            metadata.fields().iter().map(|field| (field.name().to_owned(), None)).collect();
        values(&mut Values(&mut fields));
        let mut state = self.state.lock().unwrap();
        let within = match root {
            true => Vec::new(),
            false => state.entered.iter().map(|id| state.seen[*id as usize - 1].name.clone()).collect(),
        };
        let message = fields.get("message").cloned().flatten();
        let name = message.filter(|_| !span).unwrap_or_else(|| metadata.name().to_owned());
        state.seen.push(Seen {
            name,
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            span,
            closed: false,
            fields,
            within,
            handles: 1,
        });
        state.seen.len() as u64
    }
}

struct Values<'a>(&'a mut BTreeMap<String, Option<String>>);

impl Visit for Values<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        assert!(!field.name().ends_with(".id"), "{field} is a text by the conventions, not {value}");
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), Some(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Some(value.to_owned()));
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let values = |values: &mut Values<'_>| attributes.record(values);
        Id::from_u64(self.add(attributes.metadata(), true, values, attributes.is_root()))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut state = self.state.lock().unwrap();
        let seen = &mut state.seen[span.into_u64() as usize - 1];
        assert!(!seen.closed, "{seen:?}");
        values.record(&mut Values(&mut seen.fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.add(event.metadata(), false, |values| event.record(values), event.is_root());
    }

    fn enter(&self, span: &Id) {
        self.state.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut state = self.state.lock().unwrap();
        assert_eq!(state.entered.pop(), Some(span.into_u64()));
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.state.lock().unwrap().seen[id.into_u64() as usize - 1].handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut state = self.state.lock().unwrap();
        let seen = &mut state.seen[id.into_u64() as usize - 1];
        seen.handles -= 1;
        seen.closed = seen.handles == 0;
        seen.closed
    }
}
