//! What cargo knows of the packages and their dependencies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::command::{cargo, output};

/// All packages of the workspace's graph by id.
#[derive(Debug)]
pub(crate) struct Metadata {
    packages: BTreeMap<String, Package>,
}

/// One package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rust_version: Option<String>,
    /// The native library it says it links to.
    pub(crate) links: Option<String>,
    /// `false` for the workspace's own.
    pub(crate) external: bool,
    pub(crate) published: bool,
    /// Names of its integration tests.
    pub(crate) tests: Vec<String>,
    dependencies: Vec<String>,
}

impl Metadata {
    /// Asks cargo. Fails too when Cargo.lock is out of date.
    pub(crate) fn load() -> Result<Self, String> {
        let text = output(&mut cargo(&["metadata", "--format-version", "1", "--locked"]))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
        let mut dependencies = BTreeMap::new();
        for node in array(&json["resolve"]["nodes"]) {
            dependencies.insert(string(&node["id"]), used_by(node));
        }
        let packages = array(&json["packages"])
            .map(|package| {
                let id = string(&package["id"]);
                let dependencies = dependencies.remove(&id).unwrap_or_default();
                (id, Package::read(package, dependencies))
            })
            .collect();
        Ok(Self { packages })
    }

    /// All packages.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// The workspace's own packages.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages().filter(|p| !p.external)
    }

    /// Everything that a normal or a build dependency of the member `name` leads to, without itself.
    pub(crate) fn closure(&self, name: &str) -> Vec<&Package> {
        let mut open: Vec<&str> = self
            .packages
            .iter()
            .filter(|(_, p)| !p.external && p.name == name)
            .map(|(id, _)| id.as_str())
            .collect();
        let mut seen: BTreeSet<&str> = open.iter().copied().collect();
        let mut result = Vec::new();
        while let Some(package) = open.pop().and_then(|id| self.packages.get(id)) {
            for id in &package.dependencies {
                if seen.insert(id) {
                    open.push(id);
                    result.extend(self.packages.get(id));
                }
            }
        }
        result
    }
}

impl Package {
    fn read(json: &Value, dependencies: Vec<String>) -> Self {
        let targets = |kind: &str| {
            array(&json["targets"])
                .filter(|t| array(&t["kind"]).any(|k| k.as_str() == Some(kind)))
                .map(|t| string(&t["name"]))
                .collect()
        };
        Self {
            name: string(&json["name"]),
            version: string(&json["version"]),
            rust_version: json["rust_version"].as_str().map(str::to_owned),
            links: json["links"].as_str().map(str::to_owned),
            external: !json["source"].is_null(),
            published: json["publish"].as_array().is_none_or(|registries| !registries.is_empty()),
            tests: targets("test"),
            dependencies,
        }
    }
}

/// Ids of a node's normal and build dependencies; `kind` is null for normal ones.
fn used_by(node: &Value) -> Vec<String> {
    let is_used = |dep: &&Value| array(&dep["dep_kinds"]).any(|kind| kind["kind"].as_str() != Some("dev"));
    array(&node["deps"]).filter(is_used).map(|dep| string(&dep["pkg"])).collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
