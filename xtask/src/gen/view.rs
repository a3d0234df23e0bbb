//! Views into received bytes and how they are read.

use std::fmt::Write as _;

use super::emit::{Form, Unit, condition, constants, mentions_version, rust_name, struct_doc};
use super::owned::primitive;
use super::schema::{Base, Field, Struct, Versions};

/// The views of the message and their `Element`.
pub fn emit(unit: &Unit<'_>) -> String {
    let mut out = String::new();
    for (definition, within) in &unit.structs {
        declare(unit, definition, *within, &mut out);
        decode(unit, definition, *within, &mut out);
    }
    let name = unit.view_name(&unit.message.name, "'a");
    write!(out, "impl<'a> View<'a> for {name} {{\n{}}}\n", constants(unit.message)).expect("string");
    out
}

fn declare(unit: &Unit<'_>, definition: &Struct, within: Versions, out: &mut String) {
    let name = &definition.name;
    let plain = definition.fields.iter().all(|field| unit.default(field, Form::View).1);
    let eq = if unit.floats(name) { "" } else { ", Eq" };
    let default = if plain { ", Default" } else { "" };
    writeln!(out, "/// {}", struct_doc(unit.message, name)).expect("string");
    let full = unit.view_name(name, "'a");
    writeln!(out, "#[derive(Clone, Copy, Debug, PartialEq{eq}{default})]\npub struct {full} {{")
        .expect("string");
    for field in &definition.fields {
        let doc = unit.doc(field, within, Form::View);
        let ty = unit.ty(field, Form::View);
        writeln!(out, "/// {doc}\npub {}: {ty},", rust_name(&field.name)).expect("string");
    }
    out.push_str("}\n\n");
    if !plain {
        let name = unit.view_name(name, "'_");
        writeln!(out, "impl Default for {name} {{\nfn default() -> Self {{\nSelf {{").expect("string");
        for field in &definition.fields {
            let (default, _) = unit.default(field, Form::View);
            writeln!(out, "{}: {default},", rust_name(&field.name)).expect("string");
        }
        out.push_str("}\n}\n}\n\n");
    }
}

fn decode(unit: &Unit<'_>, definition: &Struct, within: Versions, out: &mut String) {
    let mut literal = String::from("Self {\n");
    for field in &definition.fields {
        let name = rust_name(&field.name);
        let (default, _) = unit.default(field, Form::View);
        let place = unit.place(&definition.name, field);
        let read = read(unit, field, &place, within, "r");
        let value = match condition(field.versions, within) {
            _ if field.tag.is_some() => default,
            None => read,
            Some(there) => format!("if {there} {{ {read} }} else {{ {default} }}"),
        };
        writeln!(literal, "{name}: {value},").expect("string");
    }
    literal.push('}');
    let flexible = unit.message.flexible_from.is_some_and(|from| from <= within.end());
    let tagged: Vec<&Field> = definition.fields.iter().filter(|field| field.tag.is_some()).collect();
    let place = unit.tags_place(&definition.name);
    let body = if !flexible {
        format!("Ok({literal})")
    } else if tagged.is_empty() {
        format!("let this = {literal};\nr.skip_tags({place:?})?;\nOk(this)")
    } else {
        let arms: Vec<String> = tagged.iter().map(|field| arm(unit, definition, field, within)).collect();
        format!(
            "let mut this = {literal};\n\
             let mut tags = r.tags({place:?})?;\n\
             while let Some((tag, mut value)) = r.next_tag(&mut tags, {place:?})? {{\n{}\n}}\n\
             Ok(this)",
            arms.join(" else ")
        )
    };
    let version = if mentions_version(&body) { "let version = r.version();\n" } else { "" };
    write!(
        out,
        "impl<'a> Element<'a> for {} {{\n\
         #[inline]\n\
         fn parse<M: Mode>(r: &mut Reader<'a>, _field: &'static str) -> Result<Self, DecodeError> {{\n\
         {version}{body}\n}}\n}}\n\n",
        unit.view_name(&definition.name, "'a")
    )
    .expect("string");
}

/// Reads one known tagged field.
fn arm(unit: &Unit<'_>, definition: &Struct, field: &Field, within: Versions) -> String {
    let place = unit.place(&definition.name, field);
    let tag = field.tag.unwrap_or_default();
    let there = condition(field.versions, within).map_or_else(String::new, |there| format!(" && {there}"));
    let read = read(unit, field, &place, within, "value");
    let name = rust_name(&field.name);
    format!("if tag == {tag}{there} {{ this.{name} = {read}; value.finish({place:?})?; }}")
}

/// The expression that reads `field` from the reader `r`.
fn read(unit: &Unit<'_>, field: &Field, place: &str, within: Versions, r: &str) -> String {
    let element = unit.element(field, Form::View).replace("'a ", "").replace("<'a>", "<'_>");
    let reader = if r == "r" { "r".to_owned() } else { format!("&mut {r}") };
    let plain = match &field.base {
        _ if field.array => format!("{r}.array::<M, {element}>({place:?})?"),
        Base::String => format!("{r}.string::<M>({place:?})?"),
        Base::Struct(name) => format!("{name}::parse::<M>({reader}, {place:?})?"),
        base => format!("{r}.{}({place:?})?", primitive(base)),
    };
    let read = match field.nullable {
        None => plain,
        Some(nullable) => {
            let null = match &field.base {
                _ if field.array => format!("{r}.nullable_array::<M, {element}>({place:?})?"),
                Base::String => format!("{r}.nullable_string::<M>({place:?})?"),
                Base::Struct(_) => format!("{r}.nullable_struct::<M, {element}>({place:?})?"),
                _ => format!("{r}.nullable_bytes({place:?})?"),
            };
            match condition(nullable, field.versions.and(within).unwrap_or(within)) {
                None => null,
                Some(there) => format!("if {there} {{ {null} }} else {{ Some({plain}) }}"),
            }
        }
    };
    if field.inflexible {
        return format!(
            "{{ let flexible = {r}.set_flexible(false); let value = {read}; {r}.set_flexible(flexible); value }}"
        );
    }
    read
}
