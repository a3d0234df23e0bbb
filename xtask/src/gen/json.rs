//! Conversions from and to the JSON of Kafka's own converters, for the vector suite, and the walk over a view.

use std::fmt::Write as _;

use super::emit::{Form, Unit, condition, json_name, rust_name};

/// `ToJson` of the views, which `path` leads to.
pub fn to_json(unit: &Unit<'_>, path: &str) -> String {
    let mut out = String::new();
    for (definition, within) in &unit.structs {
        let name = unit.view_name(&definition.name, "'_");
        write!(
            out,
            "impl ToJson for {path}{name} {{\nfn to_json(&self, version: i16) -> Value {{\nlet mut json = Map::new();\n"
        )
        .expect("string");
        for field in &definition.fields {
            let rust = rust_name(&field.name);
            let json = json_name(&field.name);
            let insert = format!("json.insert({json:?}.to_owned(), self.{rust}.to_json(version));");
            let mut conditions: Vec<String> = condition(field.versions, *within).into_iter().collect();
            if field.tag.is_some() {
                let path = |text: String| match &field.base {
                    super::schema::Base::Struct(name) => {
                        text.replace(&format!("{name}::"), &format!("{path}{name}::"))
                    }
                    _ => text,
                };
                conditions.push(path(unit.compare(field, Form::View, false)));
            }
            if conditions.is_empty() {
                writeln!(out, "{insert}")
            } else {
                writeln!(out, "if {} {{ {insert} }}", conditions.join(" && "))
            }
            .expect("string");
        }
        out.push_str("Value::Object(json)\n}\n}\n\n");
    }
    out
}

/// `Walk` of the views, which `path` leads to.
pub fn walk(unit: &Unit<'_>, path: &str) -> String {
    let mut out = String::new();
    for (definition, _) in &unit.structs {
        let name = unit.view_name(&definition.name, "'_");
        let fields: String =
            definition.fields.iter().map(|f| format!(" + self.{}.walk()", rust_name(&f.name))).collect();
        write!(out, "impl Walk for {path}{name} {{\nfn walk(&self) -> usize {{\n1{fields}\n}}\n}}\n\n")
            .expect("string");
    }
    out
}

/// `FromJson` of the owned structs, which `path` leads to.
pub fn from_json(unit: &Unit<'_>, path: &str) -> String {
    let mut out = String::new();
    for (definition, within) in &unit.structs {
        write!(
            out,
            "impl FromJson for {path}{} {{\n\
             fn from_json(json: &Value, version: i16) -> Result<Self, String> {{\n\
             let json = object(json)?;\nOk(Self {{\n",
            definition.name
        )
        .expect("string");
        for field in &definition.fields {
            let rust = rust_name(&field.name);
            let json = json_name(&field.name);
            let (mut default, _) = unit.default(field, Form::Owned);
            if let super::schema::Base::Struct(name) = &field.base {
                default = default.replace(&format!("{name}::"), &format!("{path}{name}::"));
            }
            let value = match condition(field.versions, *within) {
                _ if field.tag.is_some() => format!("optional(json, {json:?}, version, {default})?"),
                None => format!("required(json, {json:?}, version)?"),
                Some(there) => {
                    format!("if {there} {{ required(json, {json:?}, version)? }} else {{ {default} }}")
                }
            };
            writeln!(out, "{rust}: {value},").expect("string");
        }
        out.push_str("})\n}\n}\n\n");
    }
    out
}
