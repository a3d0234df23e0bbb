//! What the emitters share: names, types, defaults, version conditions, docs.

use std::collections::BTreeMap;

use super::import::snake;
use super::schema::{Base, Field, Kind, Message, Struct, Versions};

/// Whether the owned form of a message or the view of it is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Owned,
    View,
}

/// A message on its way into code: its structs with the versions in which each can occur.
pub struct Unit<'m> {
    pub message: &'m Message,
    /// The message first, then its structs by name.
    pub structs: Vec<(Struct, Versions)>,
}

impl<'m> Unit<'m> {
    pub fn new(message: &'m Message) -> Self {
        let definitions = message.structs();
        let mut versions: BTreeMap<&str, Versions> = BTreeMap::new();
        occur(&message.fields, message.versions, &definitions, &mut versions);
        let mut structs = vec![(named(&message.name, &message.fields, message.versions), message.versions)];
        for (name, within) in versions {
            let fields = definitions.get(name).copied().unwrap_or_default();
            structs.push((named(name, fields, within), within));
        }
        Self { message, structs }
    }

    fn fields(&self, name: &str) -> &[Field] {
        let found = self.structs.iter().find(|(definition, _)| definition.name == name);
        found.map_or(&[], |(definition, _)| definition.fields.as_slice())
    }

    /// Whether the view of the struct holds references into the bytes.
    pub fn borrows(&self, name: &str) -> bool {
        self.fields(name).iter().any(|field| match &field.base {
            _ if field.array => true,
            Base::String | Base::Bytes | Base::Records => true,
            Base::Struct(name) => self.borrows(name),
            _ => false,
        })
    }

    /// Whether the struct holds a float, which has no `Eq`.
    pub fn floats(&self, name: &str) -> bool {
        self.fields(name).iter().any(|field| match &field.base {
            Base::Float64 => true,
            Base::Struct(name) => self.floats(name),
            _ => false,
        })
    }

    /// `FetchTopic`, or `FetchTopic<'a>` if its view borrows.
    pub fn view_name(&self, name: &str, lifetime: &str) -> String {
        if self.borrows(name) { format!("{name}<{lifetime}>") } else { name.to_owned() }
    }

    /// Kafka's name of a field, with that of its struct in front when it is nested.
    pub fn place(&self, owner: &str, field: &Field) -> String {
        if owner == self.message.name { field.name.clone() } else { format!("{owner}.{}", field.name) }
    }

    pub fn tags_place(&self, owner: &str) -> String {
        if owner == self.message.name { "tagged fields".to_owned() } else { format!("{owner} tagged fields") }
    }

    /// Type of one element of `field`, or of the field itself if it is no array.
    pub fn element(&self, field: &Field, form: Form) -> String {
        let simple = match (&field.base, form) {
            (Base::Bool, _) => "bool",
            (Base::Int8, _) => "i8",
            (Base::Int16, _) => "i16",
            (Base::Uint16, _) => "u16",
            (Base::Int32, _) => "i32",
            (Base::Uint32, _) => "u32",
            (Base::Int64, _) => "i64",
            (Base::Float64, _) => "f64",
            (Base::Uuid, _) => "Uuid",
            (Base::String, Form::Owned) => "String",
            (Base::String, Form::View) => "&'a str",
            (Base::Bytes | Base::Records, Form::Owned) => "Bytes",
            (Base::Bytes | Base::Records, Form::View) => "&'a [u8]",
            (Base::Struct(name), Form::Owned) => name,
            (Base::Struct(name), Form::View) => return self.view_name(name, "'a"),
        };
        simple.to_owned()
    }

    pub fn ty(&self, field: &Field, form: Form) -> String {
        let element = self.element(field, form);
        let whole = match (field.array, form) {
            (false, _) => element,
            (true, Form::Owned) => format!("Vec<{element}>"),
            (true, Form::View) => format!("Array<'a, {element}>"),
        };
        if field.nullable.is_some() { format!("Option<{whole}>") } else { whole }
    }

    /// The default as an expression, and whether it is the one that `derive(Default)` gives.
    pub fn default(&self, field: &Field, form: Form) -> (String, bool) {
        let null = field.default.as_deref() == Some("null");
        if field.nullable.is_some() && null {
            return ("None".to_owned(), true);
        }
        let (value, plain) = match (&field.base, form) {
            _ if field.array && form == Form::Owned => ("Vec::new()".to_owned(), true),
            _ if field.array => ("Array::default()".to_owned(), true),
            (Base::Bool, _) => {
                let value = field.default.as_deref() == Some("true");
                (value.to_string(), !value)
            }
            (Base::String, _) => match (&field.default, form) {
                (Some(text), Form::Owned) => (format!("{text:?}.to_owned()"), false),
                (Some(text), Form::View) => (format!("{text:?}"), false),
                (None, Form::Owned) => ("String::new()".to_owned(), true),
                (None, Form::View) => ("\"\"".to_owned(), true),
            },
            (Base::Bytes | Base::Records, Form::Owned) => ("Bytes::new()".to_owned(), true),
            (Base::Bytes | Base::Records, Form::View) => ("&[]".to_owned(), true),
            (Base::Uuid, _) => ("Uuid::ZERO".to_owned(), true),
            (Base::Struct(name), _) => (format!("{name}::default()"), true),
            (base, _) => number(base, field.default.as_deref().unwrap_or("0")),
        };
        if field.nullable.is_some() { (format!("Some({value})"), false) } else { (value, plain) }
    }

    /// An expression that says whether `self.field` has its default value, or not.
    pub fn compare(&self, field: &Field, form: Form, equal: bool) -> String {
        let this = format!("self.{}", rust_name(&field.name));
        let (default, _) = self.default(field, form);
        let not = if equal { "" } else { "!" };
        if field.nullable.is_some() {
            return match (default.as_str(), equal) {
                ("None", true) => format!("{this}.is_none()"),
                ("None", false) => format!("{this}.is_some()"),
                (_, true) => format!("{this}.as_ref().is_some_and(|value| value.is_empty())"),
                (_, false) => format!("{this}.as_ref().is_none_or(|value| !value.is_empty())"),
            };
        }
        match &field.base {
            _ if field.array => format!("{not}{this}.is_empty()"),
            Base::Bool if (default == "true") == equal => this,
            Base::Bool => format!("!{this}"),
            Base::String if field.default.is_none() => format!("{not}{this}.is_empty()"),
            Base::Bytes | Base::Records => format!("{not}{this}.is_empty()"),
            Base::Uuid => format!("{not}{this}.is_zero()"),
            _ => format!("{this} {} {default}", if equal { "==" } else { "!=" }),
        }
    }

    /// The doc line of a field.
    pub fn doc(&self, field: &Field, within: Versions, form: Form) -> String {
        let mut doc = format!("`{}`", field.name);
        let missing = condition(field.versions, within).is_some();
        if missing {
            doc.push_str(&match field.versions.and(within) {
                Some(v) if v.lo == v.end() => format!(", in version {} only", v.lo),
                Some(v) if v.end() == within.end() => format!(", from version {} on", v.lo),
                Some(v) if v.lo == within.lo => format!(", up to version {}", v.end()),
                Some(v) => format!(", versions {} to {}", v.lo, v.end()),
                None => String::new(),
            });
        }
        if field.tag.is_some() {
            doc.push_str(", tagged");
        }
        if let Some(nullable) = field.nullable
            && let Some(range) = condition(nullable, field.versions.and(within).unwrap_or(within))
        {
            let range = range.replace("version >=", "from version").replace("version <=", "up to version");
            doc.push_str(&format!("; null only {}", range.replace("version ==", "in version")));
        }
        if let Some(default) = &field.default {
            doc.push_str(&format!("; default {default}"));
        }
        doc.push('.');
        if missing && form == Form::Owned {
            doc.push_str(if field.ignorable {
                " Left out of other versions."
            } else {
                " Must be the default in other versions."
            });
        }
        doc
    }
}

/// Collects in which versions each struct can occur.
fn occur<'m>(
    fields: &'m [Field],
    within: Versions,
    definitions: &BTreeMap<&'m str, &'m [Field]>,
    found: &mut BTreeMap<&'m str, Versions>,
) {
    for field in fields {
        let Base::Struct(name) = &field.base else { continue };
        let Some(versions) = field.versions.and(within) else { continue };
        let known = found.entry(name).or_insert(versions);
        *known = Versions { lo: known.lo.min(versions.lo), hi: Some(known.end().max(versions.end())) };
        occur(definitions.get(name.as_str()).copied().unwrap_or_default(), versions, definitions, found);
    }
}

/// The struct with only those fields that exist in some version of ours.
fn named(name: &str, fields: &[Field], within: Versions) -> Struct {
    let fields = fields.iter().filter(|field| field.versions.and(within).is_some()).cloned().collect();
    Struct { name: name.to_owned(), fields }
}

fn number(base: &Base, text: &str) -> (String, bool) {
    let value = text.strip_prefix("0x").map_or_else(
        || text.parse::<i64>().unwrap_or_else(|_| panic!("default `{text}` is no number")),
        |hex| i64::from_str_radix(hex, 16).unwrap_or_else(|_| panic!("default `{text}` is no number")),
    );
    let text = match (base, value) {
        (Base::Int32, v) if v == i64::from(i32::MAX) => "i32::MAX".to_owned(),
        (Base::Int32, v) if v == i64::from(i32::MIN) => "i32::MIN".to_owned(),
        (Base::Int64, i64::MAX) => "i64::MAX".to_owned(),
        (Base::Float64, v) => format!("{v}.0"),
        (_, v) => v.to_string(),
    };
    (text, value == 0)
}

/// The condition on `version` under which a field of `versions` is there, given that the version is `within`;
/// `None` if it always is.
pub fn condition(versions: Versions, within: Versions) -> Option<String> {
    match (versions.lo > within.lo, versions.end() < within.end()) {
        (false, false) => None,
        (true, false) if versions.lo == within.end() => Some(format!("version == {}", versions.lo)),
        (true, false) => Some(format!("version >= {}", versions.lo)),
        (false, true) if versions.end() == within.lo => Some(format!("version == {}", within.lo)),
        (false, true) => Some(format!("version <= {}", versions.end())),
        (true, true) if versions.lo == versions.end() => Some(format!("version == {}", versions.lo)),
        (true, true) => Some(format!("({}..={}).contains(&version)", versions.lo, versions.end())),
    }
}

/// `MaxWaitMs` → `max_wait_ms`, `Type` → `type_`.
pub fn rust_name(name: &str) -> String {
    let name = snake(name);
    if matches!(name.as_str(), "type" | "match" | "move" | "ref" | "use" | "where") {
        format!("{name}_")
    } else {
        name
    }
}

/// Kafka's name of a field in JSON: with a small first letter.
pub fn json_name(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// The doc line of a struct.
pub fn struct_doc(message: &Message, name: &str) -> String {
    if name != message.name {
        return format!("`{name}` in `{}`.", message.name);
    }
    let (lo, hi) = (message.versions.lo, message.versions.end());
    let range = if lo == hi { format!("version {lo}") } else { format!("versions {lo} to {hi}") };
    let what = match message.kind {
        Kind::Request => "Request",
        Kind::Response => "Response",
        Kind::Header => "Header",
        Kind::Data => "Data structure",
    };
    match message.key {
        Some(key) => format!("{what} `{name}` (API key {key}), {range}."),
        None => format!("{what} `{name}`, {range}."),
    }
}

/// The constants that every message has.
pub fn constants(message: &Message) -> String {
    let flexible = message.flexible_from.map_or_else(|| "i16::MAX".to_owned(), |from| from.to_string());
    format!(
        "const NAME: &'static str = {:?};\nconst MIN_VERSION: i16 = {};\nconst MAX_VERSION: i16 = {};\n\
         const FLEXIBLE_FROM: i16 = {flexible};\n",
        message.name,
        message.versions.lo,
        message.versions.end()
    )
}

/// Whether the code `body` mentions `word` as a whole word, docs and strings aside.
pub fn mentions(body: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let code = body.lines().filter(|line| !line.trim_start().starts_with("//"));
    // What stands at even places between quotes is code.
    let mut pieces = code.flat_map(|line| line.split('"').step_by(2));
    pieces.any(|code| {
        code.match_indices(word).any(|(at, _)| {
            !code[..at].chars().next_back().is_some_and(is_word)
                && !code[at + word.len()..].chars().next().is_some_and(is_word)
        })
    })
}

/// Whether `version` is used as a variable and not only as the name of a field.
pub fn mentions_version(body: &str) -> bool {
    ["version >", "version <", "version ==", "&version"].iter().any(|used| body.contains(used))
}
