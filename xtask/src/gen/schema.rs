//! The message definitions: their notation (`crates/ottla-wire/schema/README.md` explains it) and what they mean.

use std::collections::BTreeMap;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Response,
    Header,
    Data,
}

/// A range of versions; `hi` is `None` when it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub lo: i16,
    pub hi: Option<i16>,
}

/// The type of a field, less array and null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    String,
    Bytes,
    Records,
    Uuid,
    Struct(String),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub array: bool,
    pub base: Base,
    /// The versions in which it may be null.
    pub nullable: Option<Versions>,
    pub versions: Versions,
    pub tag: Option<u32>,
    pub default: Option<String>,
    pub ignorable: bool,
    /// Never compact, even in flexible versions.
    pub inflexible: bool,
    /// The fields of its struct when that is defined in place.
    pub fields: Vec<Self>,
}

/// A struct and the versions of the message in which it can occur.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub kind: Kind,
    pub name: String,
    pub key: Option<i16>,
    pub versions: Versions,
    pub flexible_from: Option<i16>,
    /// The last version exists but is not released for use.
    pub unstable: bool,
    pub fields: Vec<Field>,
    pub common: Vec<Struct>,
}

impl Versions {
    /// `3+`, `0-4` or `2`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.parse::<i16>().map_err(|_| format!("bad versions `{text}`"));
        Ok(if let Some(lo) = text.strip_suffix('+') {
            Self { lo: number(lo)?, hi: None }
        } else if let Some((lo, hi)) = text.split_once('-') {
            Self { lo: number(lo)?, hi: Some(number(hi)?) }
        } else {
            Self { lo: number(text)?, hi: Some(number(text)?) }
        })
    }

    pub fn end(self) -> i16 {
        self.hi.unwrap_or(i16::MAX)
    }

    /// The versions in both; `None` if there are none.
    pub fn and(self, other: Self) -> Option<Self> {
        let lo = self.lo.max(other.lo);
        let end = self.end().min(other.end());
        (lo <= end).then_some(Self { lo, hi: (end != i16::MAX).then_some(end) })
    }
}

impl Base {
    pub fn parse(name: &str) -> Self {
        match name {
            "bool" => Self::Bool,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "uint16" => Self::Uint16,
            "int32" => Self::Int32,
            "uint32" => Self::Uint32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            "uuid" => Self::Uuid,
            name => Self::Struct(name.to_owned()),
        }
    }

    /// Smallest encoded size in bytes of a value that is no struct.
    fn min_size(&self) -> Option<usize> {
        Some(match self {
            Self::Bool | Self::Int8 => 1,
            Self::Int16 | Self::Uint16 => 2,
            Self::Int32 | Self::Uint32 => 4,
            Self::Int64 | Self::Float64 => 8,
            Self::Uuid => 16,
            Self::String | Self::Bytes | Self::Records => 1,
            Self::Struct(_) => return None,
        })
    }
}

impl Message {
    /// Parses one `.msg` file.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if !line.is_empty() && !line.trim_start().starts_with('#') {
                let indent = line.len() - line.trim_start().len();
                lines.push(Line { number: number + 1, indent, words: line.split_whitespace().collect() });
            }
        }
        let mut lines = lines.as_slice();
        let Some((head, rest)) = lines.split_first() else { return Err("empty".to_owned()) };
        lines = rest;
        let mut message = head.message().map_err(|e| head.at(&e))?;
        while let Some(line) = lines.first() {
            if line.words.first() == Some(&"struct") {
                let name = line.words.get(1).ok_or_else(|| line.at("struct without a name"))?;
                lines = &lines[1..];
                let fields = fields(&mut lines, line.indent + 2)?;
                message.common.push(Struct { name: (*name).to_owned(), fields });
            } else {
                message.fields.extend(fields(&mut lines, 0)?);
            }
        }
        message.check()?;
        Ok(message)
    }

    /// All structs but the message itself, by name.
    pub fn structs(&self) -> BTreeMap<&str, &[Field]> {
        fn walk<'m>(fields: &'m [Field], found: &mut BTreeMap<&'m str, &'m [Field]>) {
            for field in fields {
                if let Base::Struct(name) = &field.base
                    && !field.fields.is_empty()
                {
                    found.insert(name, &field.fields);
                    walk(&field.fields, found);
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.fields, &mut found);
        for common in &self.common {
            found.insert(&common.name, &common.fields);
            walk(&common.fields, &mut found);
        }
        found
    }

    /// Whether strings and arrays are compact and structs end with tagged fields in `version`.
    fn flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    fn check(&self) -> Result<(), String> {
        let structs = self.structs();
        let all = structs.values().copied().chain([self.fields.as_slice()]);
        for field in all.flatten() {
            let at = |what: &str| Err(format!("{}: {}: {what}", self.name, field.name));
            if let Base::Struct(name) = &field.base
                && !structs.contains_key(name.as_str())
            {
                return at(&format!("no struct {name}"));
            }
            if field.tag.is_some() && self.flexible_from.is_none_or(|from| field.versions.lo < from) {
                return at("tagged in a version that is not flexible");
            }
            if field.default.as_deref() == Some("null") && field.nullable.is_none() {
                return at("defaults to null but cannot be null");
            }
            // What bounds the time that hostile counts cost: see `Reader::nullable_array`.
            if let Some(versions) = field.versions.and(self.versions)
                && field.array
                && let Some(version) = (versions.lo..=versions.end()).find(|v| self.min_size(field, *v) == 0)
            {
                return at(&format!("its elements are empty in version {version}"));
            }
        }
        Ok(())
    }

    /// Smallest encoded size in bytes of one element of `field`.
    fn min_size(&self, field: &Field, version: i16) -> usize {
        let Base::Struct(name) = &field.base else { return field.base.min_size().unwrap_or(0) };
        let fields = self.structs().get(name.as_str()).copied().unwrap_or_default();
        let inner = fields
            .iter()
            .filter(|f| f.tag.is_none() && f.versions.lo <= version && version <= f.versions.end());
        inner.map(|f| if f.array { 1 } else { self.min_size(f, version) }).sum::<usize>()
            + usize::from(self.flexible(version))
    }
}

struct Line<'t> {
    number: usize,
    indent: usize,
    words: Vec<&'t str>,
}

impl Line<'_> {
    fn at(&self, what: &str) -> String {
        format!("line {}: {what}", self.number)
    }

    /// `request FetchRequest key 1 versions 4-18 flexible 12+ unstable`
    fn message(&self) -> Result<Message, String> {
        let mut words = self.words.iter().copied();
        let kind = match words.next() {
            Some("request") => Kind::Request,
            Some("response") => Kind::Response,
            Some("header") => Kind::Header,
            Some("data") => Kind::Data,
            other => return Err(format!("unknown kind of message {other:?}")),
        };
        let name = words.next().ok_or("no name")?.to_owned();
        let mut message = Message {
            kind,
            name,
            key: None,
            versions: Versions { lo: 0, hi: None },
            flexible_from: None,
            unstable: false,
            fields: Vec::new(),
            common: Vec::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("nothing after `{word}`"));
            match word {
                "key" => message.key = Some(value()?.parse().map_err(|_| "bad key")?),
                "versions" => message.versions = Versions::parse(value()?)?,
                "flexible" => match value()? {
                    "none" => message.flexible_from = None,
                    versions => message.flexible_from = Some(Versions::parse(versions)?.lo),
                },
                "unstable" => message.unstable = true,
                word => return Err(format!("unknown word `{word}`")),
            }
        }
        if message.versions.hi.is_none() {
            return Err("the versions of a message need an end".to_owned());
        }
        Ok(message)
    }

    /// `Name type versions tag 0 default x ignorable inflexible`
    fn field(&self) -> Result<Field, String> {
        let mut words = self.words.iter().copied();
        let name = words.next().ok_or("no name")?.to_owned();
        let ty = words.next().ok_or("no type")?;
        let versions = Versions::parse(words.next().ok_or("no versions")?)?;
        let (array, ty) = ty.strip_prefix("[]").map_or((false, ty), |ty| (true, ty));
        let (ty, nullable) = match ty.split_once('?') {
            None => (ty, None),
            Some((ty, "")) => (ty, Some(versions)),
            Some((ty, range)) => (ty, Some(Versions::parse(range)?)),
        };
        let mut field = Field {
            name,
            array,
            base: Base::parse(ty),
            nullable,
            versions,
            tag: None,
            default: None,
            ignorable: false,
            inflexible: false,
            fields: Vec::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("nothing after `{word}`"));
            match word {
                "tag" => field.tag = Some(value()?.parse().map_err(|_| "bad tag")?),
                "default" => field.default = Some(value()?.to_owned()),
                "ignorable" => field.ignorable = true,
                "inflexible" => field.inflexible = true,
                word => return Err(format!("unknown word `{word}`")),
            }
        }
        Ok(field)
    }
}

/// The fields at `indent` at the front of `lines`, which moves behind them.
fn fields(lines: &mut &[Line<'_>], indent: usize) -> Result<Vec<Field>, String> {
    let mut found = Vec::new();
    while let Some((line, rest)) = lines.split_first() {
        if line.indent < indent || line.words.first() == Some(&"struct") {
            break;
        }
        if line.indent > indent {
            return Err(line.at(&format!("indented by {} instead of {indent}", line.indent)));
        }
        let mut field = line.field().map_err(|e| line.at(&e))?;
        *lines = rest;
        if lines.first().is_some_and(|next| next.indent > indent) {
            field.fields = fields(lines, indent + 2)?;
        }
        found.push(field);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "request PingRequest key 1 versions 1-5 flexible 3+\n\n";

    fn parse(fields: &str) -> Result<Message, String> {
        Message::parse(&format!("{HEAD}{fields}"))
    }

    fn refused(fields: &str, why: &str) {
        let error = parse(fields).expect_err(fields);
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_definition_says_what_it_says() {
        let message = parse(
            "# comment\nName  string?4+  0+  default null ignorable\nItems  []Item  2+\n  Id  uuid  2+\n  \
             Size  int32  3+  tag 7 default -1\n\nstruct Spare\n  X  bool  0+\n",
        )
        .expect("a good definition");
        assert_eq!((message.kind, message.key, message.flexible_from), (Kind::Request, Some(1), Some(3)));
        assert_eq!(message.versions, Versions { lo: 1, hi: Some(5) });
        let [name, items] = message.fields.as_slice() else { panic!("{:?}", message.fields) };
        assert_eq!(name.nullable, Some(Versions { lo: 4, hi: None }));
        assert!(name.ignorable && !items.ignorable && items.array);
        assert_eq!((items.fields[1].tag, items.fields[1].default.as_deref()), (Some(7), Some("-1")));
        assert!(message.structs().contains_key("Spare") && message.structs().contains_key("Item"));
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        refused("Name string\n", "line 3: no versions");
        refused("Name string 0+ optional\n", "line 3: unknown word `optional`");
        refused("Name string x\n", "bad versions");
        refused("Items []Item 0+\n", "no struct Item");
        refused("A int32 0+\n   B int32 0+\n", "indented by 3");
        refused("A int32 2+ tag 0\n", "tagged in a version that is not flexible");
        refused("A string 0+ default null\n", "cannot be null");
    }

    /// An array of nothing would let a few bytes ask for millions of elements.
    #[test]
    fn an_array_whose_elements_are_empty_in_some_version_is_refused() {
        refused("Items []Item 0+\n  Id int32 2+\n", "empty in version 1");
        assert!(parse("Items []Item 2+\n  Id int32 2+\n").is_ok());
    }

    #[test]
    fn versions_meet() {
        let v = |text| Versions::parse(text).expect("versions");
        assert_eq!(v("3+").and(v("0-5")), Some(v("3-5")));
        assert_eq!(v("0-2").and(v("3+")), None);
        assert_eq!(v("0+").and(v("2+")), Some(v("2+")));
    }
}
