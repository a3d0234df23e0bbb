//! The table of APIs.

use std::fmt::Write as _;

use super::schema::{Kind, Message};

/// Key, name, request and response.
type Api<'m> = (i16, String, &'m Message, &'m Message);

/// `ApiKey` with numbers, names, versions and header versions.
pub fn emit(messages: &[Message]) -> String {
    let mut apis: Vec<Api<'_>> = Vec::new();
    for request in messages.iter().filter(|m| m.kind == Kind::Request) {
        let response = messages.iter().find(|m| m.kind == Kind::Response && m.key == request.key);
        let (Some(key), Some(response)) = (request.key, response) else {
            panic!("{} needs a key and a response", request.name);
        };
        apis.push((key, request.name.trim_end_matches("Request").to_owned(), request, response));
    }
    apis.sort_by_key(|api| api.0);
    let each = |write: &dyn Fn(&Api<'_>) -> String| -> String { apis.iter().map(write).collect() };
    let variants = each(&|(key, name, ..)| format!("/// {name}, {key}.\n{name} = {key},\n"));
    let all = each(&|(_, name, ..)| format!("Self::{name},"));
    let from = each(&|(key, name, ..)| format!("{key} => Self::{name},\n"));
    let names = each(&|(_, name, ..)| format!("Self::{name} => {name:?},\n"));
    let min = each(&|(_, name, request, _)| format!("Self::{name} => {},\n", request.versions.lo));
    let max = each(&|(_, name, request, _)| {
        format!("Self::{name} => {},\n", request.versions.end() - i16::from(request.unstable))
    });
    let flexible = |message: &Message| message.flexible_from.map_or("i16::MAX".to_owned(), |v| v.to_string());
    let requests = each(&|(_, name, request, _)| format!("Self::{name} => {},\n", flexible(request)));
    let responses = each(&|(_, name, _, response)| match name.as_str() {
        // KIP-511: a broker that does not know the version answers too, and the client must understand it.
        "ApiVersions" => {
            format!("// KIP-511: readable by a client of any version.\nSelf::{name} => i16::MAX,\n")
        }
        _ => format!("Self::{name} => {},\n", flexible(response)),
    });
    let mut out = String::new();
    write!(
        out,
        "//! The APIs and their versions.\n\n\
         /// The APIs that we know.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\n\
         pub enum ApiKey {{\n{variants}}}\n\n\
         impl ApiKey {{\n\
         /// All of them, by number.\n\
         pub const ALL: &'static [Self] = &[{all}];\n\n\
         /// The API with the number `key`, if we know it.\n\
         pub const fn from_i16(key: i16) -> Option<Self> {{\nSome(match key {{\n{from}_ => return None,\n}})\n}}\n\n\
         /// Its number.\n\
         pub const fn code(self) -> i16 {{\nself as i16\n}}\n\n\
         /// Kafka's name: `Fetch`.\n\
         pub const fn name(self) -> &'static str {{\nmatch self {{\n{names}}}\n}}\n\n\
         /// The lowest version that we know.\n\
         pub const fn min_version(self) -> i16 {{\nmatch self {{\n{min}}}\n}}\n\n\
         /// The highest version that we know and that is released for use.\n\
         pub const fn max_version(self) -> i16 {{\nmatch self {{\n{max}}}\n}}\n\n\
         /// Version of the header of a request in `version`: 2 with tagged fields, else 1.\n\
         pub const fn request_header_version(self, version: i16) -> i16 {{\n\
         let flexible_from = match self {{\n{requests}}};\nif version >= flexible_from {{ 2 }} else {{ 1 }}\n}}\n\n\
         /// Version of the header of the response to a request in `version`: 1 with tagged fields, else 0.\n\
         pub const fn response_header_version(self, version: i16) -> i16 {{\n\
         let flexible_from = match self {{\n{responses}}};\nif version >= flexible_from {{ 1 }} else {{ 0 }}\n}}\n\
         }}\n\n\
         impl std::fmt::Display for ApiKey {{\n\
         fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{\nf.write_str(self.name())\n}}\n}}\n"
    )
    .expect("string");
    out
}
