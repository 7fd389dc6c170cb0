//! What templates use of Python and minijinja lacks.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;
use serde_json::ser::{Formatter, Serializer};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Adds methods, filters and tests.
pub fn add_to(environment: &mut Environment) {
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", tojson);
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
}

/// Methods of strings, lists and maps.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    pycompat::unknown_method_callback(state, value, name, args)
}

/// JSON as Python's `json.dumps` writes it: spaces after commas and colons, no HTML escapes.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent {
        None => None,
        Some(value) => match (value.as_str(), value.as_usize()) {
            (Some(text), _) => Some(text.chars().take(MAX_INDENT).collect()),
            (None, Some(n)) => Some(" ".repeat(n.min(MAX_INDENT))),
            (None, None) if value.is_none() => None,
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "indent must be a number or a string")),
        },
    };
    let separators: Option<Vec<String>> = options.get("separators")?;
    let (comma, colon) = match separators.as_deref() {
        Some([comma, colon]) => (comma.clone(), colon.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "there must be two separators")),
        None => ((if indent.is_some() { "," } else { ", " }).to_string(), ": ".to_string()),
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted;
    let value = if options.get::<Option<bool>>("sort_keys")?.unwrap_or(false) {
        sorted = sort_keys(value, 0)?;
        &sorted
    } else {
        value
    };
    options.assert_all_used()?;
    let failed = |e: String| Error::new(ErrorKind::BadSerialization, e);
    if value.is_undefined() {
        return Err(failed("an undefined value is not JSON".into()));
    }
    let mut json = Vec::new();
    let python = Python { indent, comma, colon, ascii, depth: 0, empty: true };
    serde::Serialize::serialize(value, &mut Serializer::with_formatter(&mut json, python))
        .map_err(|e| failed(e.to_string()))?;
    String::from_utf8(json).map_err(|e| failed(e.to_string()))
}

/// Characters by which a level of JSON is indented.
const MAX_INDENT: usize = 16;
/// Levels of JSON.
const MAX_DEPTH: usize = 100;

/// The same value with the keys of its maps in order.
fn sort_keys(value: &Value, depth: usize) -> Result<Value, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "the value is nested too deep for JSON"));
    }
    Ok(match value.kind() {
        ValueKind::Map => {
            let mut sorted = BTreeMap::new();
            for key in value.try_iter()? {
                let item = sort_keys(&value.get_item(&key)?, depth + 1)?;
                sorted.insert(key, item);
            }
            Value::from_pairs(sorted)
        }
        ValueKind::Seq => {
            let items: Result<Vec<Value>, Error> =
                value.try_iter()?.map(|item| sort_keys(&item, depth + 1)).collect();
            Value::from(items?)
        }
        _ => value.clone(),
    })
}

/// Writes JSON as Python does.
struct Python {
    /// Of one level; without it, all is on one line.
    indent: Option<String>,
    comma: String,
    colon: String,
    /// Whether other characters than ASCII are escaped.
    ascii: bool,
    depth: usize,
    /// Whether the array or object that ends has no items.
    empty: bool,
}

impl Python {
    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.new_line(out)?;
        }
        self.empty = false;
        out.write_all(bracket)
    }

    fn begin_item<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(self.comma.as_bytes())?;
        }
        self.new_line(out)
    }

    fn new_line<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if let Some(indent) = &self.indent {
            out.write_all(b"\n")?;
            for _ in 0..self.depth {
                out.write_all(indent.as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(self.colon.as_bytes())
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.empty = false;
        Ok(())
    }

    /// Python's `repr` of a float: an exponent has two digits at least and is used from 1e16 on and below
    /// 1e-4.
    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size == 0.0 || (1e-4..1e16).contains(&size) {
            return write!(out, "{value:?}");
        }
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
        write!(out, "{digits}e{sign}{exponent:0>2}")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if !self.ascii {
            return out.write_all(text.as_bytes());
        }
        for c in text.chars() {
            if (' '..='~').contains(&c) {
                write!(out, "{c}")?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
