//! Owned structs and how they are encoded.

use std::fmt::Write as _;

use super::emit::{Form, Unit, condition, constants, mentions_version, rust_name, struct_doc};
use super::schema::{Base, Field, Kind, Struct, Versions};

/// The owned structs of the message and their `Fields`; `response` is the type of the response to a request.
pub fn emit(unit: &Unit<'_>, response: Option<&str>) -> String {
    let mut out = String::new();
    for (definition, within) in &unit.structs {
        declare(unit, definition, *within, &mut out);
        encode(unit, definition, *within, &mut out);
    }
    let name = &unit.message.name;
    let constants = constants(unit.message);
    if let (Kind::Request, Some(response)) = (unit.message.kind, response) {
        let api = name.trim_end_matches("Request");
        write!(
            out,
            "impl Request for {name} {{\nconst API: ApiKey = ApiKey::{api};\n{constants}\
             type Response<'a> = {response};\n}}\n"
        )
    } else {
        write!(out, "impl Encode for {name} {{\n{constants}}}\n")
    }
    .expect("string");
    out
}

fn declare(unit: &Unit<'_>, definition: &Struct, within: Versions, out: &mut String) {
    let name = &definition.name;
    let plain = definition.fields.iter().all(|field| unit.default(field, Form::Owned).1);
    let eq = if unit.floats(name) { "" } else { ", Eq" };
    let default = if plain { ", Default" } else { "" };
    writeln!(out, "/// {}", struct_doc(unit.message, name)).expect("string");
    writeln!(out, "#[derive(Clone, Debug, PartialEq{eq}{default})]\npub struct {name} {{").expect("string");
    for field in &definition.fields {
        let doc = unit.doc(field, within, Form::Owned);
        let ty = unit.ty(field, Form::Owned);
        writeln!(out, "/// {doc}\npub {}: {ty},", rust_name(&field.name)).expect("string");
    }
    out.push_str("}\n\n");
    if !plain {
        writeln!(out, "impl Default for {name} {{\nfn default() -> Self {{\nSelf {{").expect("string");
        for field in &definition.fields {
            let (default, _) = unit.default(field, Form::Owned);
            writeln!(out, "{}: {default},", rust_name(&field.name)).expect("string");
        }
        out.push_str("}\n}\n}\n\n");
    }
}

fn encode(unit: &Unit<'_>, definition: &Struct, within: Versions, out: &mut String) {
    let mut body = String::new();
    for field in definition.fields.iter().filter(|field| field.tag.is_none()) {
        let write = write(unit, definition, field, within);
        let place = unit.place(&definition.name, field);
        match condition(field.versions, within) {
            None => writeln!(body, "{write};"),
            Some(there) if field.ignorable => writeln!(body, "if {there} {{ {write}; }}"),
            Some(there) => {
                let default = unit.compare(field, Form::Owned, true);
                writeln!(body, "if {there} {{ {write}; }} else {{ w.absent({place:?}, {default})?; }}")
            }
        }
        .expect("string");
    }
    let mut tagged: Vec<&Field> = definition.fields.iter().filter(|field| field.tag.is_some()).collect();
    tagged.sort_by_key(|field| field.tag);
    let mut names = Vec::new();
    for field in &tagged {
        let name = format!("has_{}", rust_name(&field.name));
        let set = unit.compare(field, Form::Owned, false);
        let place = unit.place(&definition.name, field);
        match condition(field.versions, within) {
            None => writeln!(body, "let {name} = {set};"),
            Some(there) if field.ignorable => writeln!(body, "let {name} = {there} && {set};"),
            Some(there) => {
                let default = unit.compare(field, Form::Owned, true);
                writeln!(
                    body,
                    "let {name} = {there} && {set};\nif !{name} {{ w.absent({place:?}, {default})?; }}"
                )
            }
        }
        .expect("string");
        names.push(name);
    }
    if unit.message.flexible_from.is_some_and(|from| from <= within.end()) {
        writeln!(body, "w.tags(&[{}]);", names.join(", ")).expect("string");
    }
    for (field, name) in tagged.iter().zip(&names) {
        let place = unit.place(&definition.name, field);
        let tag = field.tag.unwrap_or_default();
        let write = write(unit, definition, field, within);
        let content = match write.strip_suffix('?') {
            Some(fallible) => fallible.to_owned(),
            None => format!("{{ {write}; Ok(()) }}"),
        };
        writeln!(body, "if {name} {{ w.tag({place:?}, {tag}, |w| {content})?; }}").expect("string");
    }
    let version = if mentions_version(&body) { "let version = w.version();\n" } else { "" };
    write!(
        out,
        "impl Fields for {} {{\n\
         fn write(&self, w: &mut Writer<'_>, _field: &'static str) -> Result<(), EncodeError> {{\n\
         {version}{body}Ok(())\n}}\n}}\n\n",
        definition.name
    )
    .expect("string");
}

/// The expression that writes `field`.
fn write(unit: &Unit<'_>, definition: &Struct, field: &Field, within: Versions) -> String {
    let this = format!("self.{}", rust_name(&field.name));
    let place = unit.place(&definition.name, field);
    let written = if let Some(nullable) = field.nullable {
        let there = field.versions.and(within).unwrap_or(within);
        let nullable = condition(nullable, there).unwrap_or_else(|| "true".to_owned());
        let (writer, value) = match &field.base {
            _ if field.array => ("nullable_array", format!("{this}.as_deref()")),
            Base::String => ("nullable_string", format!("{this}.as_deref()")),
            Base::Bytes | Base::Records => ("nullable_bytes", format!("{this}.as_deref()")),
            _ => ("nullable_struct", format!("{this}.as_ref()")),
        };
        format!("w.{writer}({place:?}, {value}, {nullable})?")
    } else {
        match &field.base {
            _ if field.array => format!("w.array({place:?}, &{this})?"),
            Base::String => format!("w.string({place:?}, &{this})?"),
            Base::Bytes | Base::Records => format!("w.bytes({place:?}, &{this})?"),
            Base::Struct(_) => format!("{this}.write(w, {place:?})?"),
            base => format!("w.{}({this})", primitive(base)),
        }
    };
    if field.inflexible {
        return format!("let flexible = w.set_flexible(false); {written}; w.set_flexible(flexible)");
    }
    written
}

/// The method of `Reader` and `Writer` for a primitive.
pub fn primitive(base: &Base) -> &'static str {
    match base {
        Base::Bool => "boolean",
        Base::Int8 => "int8",
        Base::Int16 => "int16",
        Base::Uint16 => "uint16",
        Base::Int32 => "int32",
        Base::Uint32 => "uint32",
        Base::Int64 => "int64",
        Base::Float64 => "float64",
        Base::Uuid => "uuid",
        Base::String => "string",
        Base::Bytes | Base::Records => "bytes",
        Base::Struct(_) => unreachable!("a struct is no primitive"),
    }
}
