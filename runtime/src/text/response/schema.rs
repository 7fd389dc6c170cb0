//! JSON Schemas of arguments that a format writes as bare text, between tags: what is wrong with them, and
//! the ways to fit them, keyword by keyword.

use serde_json::{Map, Value};
use thiserror::Error;

/// Deeper references and combinations of schemas are not followed.
pub(super) const MAX_DEPTH: usize = 32;
/// Ways to fit a schema at most.
const MAX_WAYS: usize = 64;

/// What a schema asks for and cannot be held.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the JSON Schema cannot be used: {path}: {problem}")]
pub struct Problem {
    /// The keyword, as a JSON Pointer in a URI fragment (RFC 6901).
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl Problem {
    pub(super) fn new(path: &str, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

/// The part of a schema that a reference names.
pub(super) fn resolve<'a>(root: &'a Value, reference: &Value) -> Option<&'a Value> {
    root.pointer(reference.as_str()?.strip_prefix('#')?)
}

/// A name in a JSON Pointer (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// One way to fit a schema.
pub(super) trait Choice: Clone {
    /// What every value fits.
    fn any() -> Self;

    /// From a schema that is neither `true` nor an object.
    fn of_other(schema: &Value, path: &str) -> Result<Vec<Self>, Problem>;

    /// From a schema's own keywords.
    fn of_keywords(map: &Map<String, Value>, path: &str) -> Result<Self, Problem>;

    /// From a `oneOf`; `list` gives the ways to fit each of its schemas.
    fn one_of(
        list: impl FnOnce() -> Result<Vec<Vec<Self>>, Problem>,
        path: &str,
    ) -> Result<Vec<Self>, Problem>;

    /// What fits both; none: nothing.
    fn with(&self, other: &Self) -> Result<Option<Self>, Problem>;
}

/// The ways to fit a schema.
pub(super) fn choices<C: Choice>(schema: &Value, root: &Value, path: &str) -> Result<Vec<C>, Problem> {
    at_depth(schema, root, path, 0)
}

fn at_depth<C: Choice>(schema: &Value, root: &Value, path: &str, depth: usize) -> Result<Vec<C>, Problem> {
    let map = match schema {
        Value::Bool(true) => return Ok(vec![C::any()]),
        Value::Object(map) if depth < MAX_DEPTH => map,
        Value::Object(_) => return Err(Problem::new(path, "it is nested too deeply")),
        other => return C::of_other(other, path),
    };
    let mut all = vec![C::of_keywords(map, path)?];
    for (key, value) in map {
        let path = format!("{path}/{key}");
        let list = || -> Result<Vec<Vec<C>>, Problem> {
            let list = value.as_array().ok_or_else(|| Problem::new(&path, "must be a list"))?;
            let inner = |(i, one)| at_depth(one, root, &format!("{path}/{i}"), depth + 1);
            list.iter().enumerate().map(inner).collect()
        };
        let each = match key.as_str() {
            "$ref" => {
                let target =
                    resolve(root, value).ok_or_else(|| Problem::new(&path, "there is no such definition"))?;
                vec![at_depth(target, root, value.as_str().unwrap_or(&path), depth + 1)?]
            }
            "allOf" => list()?,
            "anyOf" => vec![list()?.concat()],
            "oneOf" => vec![C::one_of(list, &path)?],
            _ => continue,
        };
        for choices in each {
            let pairs = all.iter().flat_map(|a: &C| choices.iter().map(move |b| a.with(b)));
            all = pairs.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            if all.len() > MAX_WAYS {
                return Err(Problem::new(&path, "there are too many ways to fit it"));
            }
        }
    }
    Ok(all)
}
