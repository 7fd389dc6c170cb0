//! A small GGUF writer, for adapters and for the files that tests need.

use std::io::{self, Write};

use super::{ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, MAGIC, Metadata, TensorType, Value};

const VERSION: u32 = 3;

/// The header of a file to write. The data itself is streamed by [`Writer::write`].
#[derive(Debug, Default)]
pub struct Writer {
    metadata: Metadata,
    tensors: Vec<(String, Vec<u64>, TensorType)>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a metadata entry.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key, value);
        self
    }

    /// Adds a tensor; `shape` is row-major, last index fastest. Data is written in the order of these calls.
    pub fn tensor(mut self, name: impl Into<String>, shape: &[u64], ty: TensorType) -> Self {
        self.tensors.push((name.into(), shape.to_vec(), ty));
        self
    }

    /// Writes the file. `data(index, out)` writes the bytes of one tensor; if these are not as many as its
    /// type and shape take, the call fails with [`io::ErrorKind::InvalidData`].
    pub fn write<W: Write>(
        &self,
        out: W,
        mut data: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = Counter { inner: out, written: 0 };
        let alignment = self.alignment()?;
        self.write_header(&mut out)?;
        for (index, (name, shape, ty)) in self.tensors.iter().enumerate() {
            let (before, expected) = (out.written, tensor_bytes(name, shape, *ty)?);
            data(index, &mut out)?;
            let got = out.written - before;
            if got != expected {
                let problem = format!("tensor {name:?} takes {expected} bytes, but {got} were written");
                return Err(invalid(problem));
            }
            out.pad(alignment)?;
        }
        out.flush()
    }

    /// Everything before the data.
    pub fn header(&self) -> io::Result<Vec<u8>> {
        let mut out = Counter { inner: Vec::new(), written: 0 };
        self.write_header(&mut out)?;
        Ok(out.inner)
    }

    /// Bytes of all tensors' data with its padding.
    pub fn data_bytes(&self) -> io::Result<u64> {
        let alignment = self.alignment()?;
        let padded = |(name, shape, ty): &(String, Vec<u64>, TensorType)| {
            Ok(tensor_bytes(name, shape, *ty)?.next_multiple_of(alignment))
        };
        self.tensors.iter().map(padded).sum()
    }

    fn alignment(&self) -> io::Result<u64> {
        let alignment = self.metadata.u64(ALIGNMENT_KEY).map_err(|e| invalid(e.to_string()))?;
        match alignment.unwrap_or(DEFAULT_ALIGNMENT) {
            alignment if alignment.is_power_of_two() => Ok(alignment),
            _ => Err(invalid(format!("{ALIGNMENT_KEY} is not a power of two"))),
        }
    }

    /// Everything before the data, with the padding between.
    fn write_header<W: Write>(&self, out: &mut Counter<W>) -> io::Result<()> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in self.metadata.iter() {
            string(out, key)?;
            write_value(out, value)?;
        }
        let alignment = self.alignment()?;
        let mut offset = 0u64;
        for (name, shape, ty) in &self.tensors {
            string(out, name)?;
            out.write_all(&(shape.len() as u32).to_le_bytes())?;
            for dimension in shape.iter().rev() {
                out.write_all(&dimension.to_le_bytes())?;
            }
            out.write_all(&ty.id().to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
            offset = (offset + tensor_bytes(name, shape, *ty)?).next_multiple_of(alignment);
        }
        out.pad(alignment)
    }
}

fn tensor_bytes(name: &str, shape: &[u64], ty: TensorType) -> io::Result<u64> {
    ty.tensor_bytes(shape).map_err(|problem| invalid(format!("tensor {name:?}: {problem}")))
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

/// Counts the bytes that are written through it.
struct Counter<W> {
    inner: W,
    written: u64,
}

impl<W: Write> Counter<W> {
    fn pad(&mut self, alignment: u64) -> io::Result<()> {
        let padding = self.written.next_multiple_of(alignment) - self.written;
        io::copy(&mut io::Read::take(io::repeat(0), padding), self).map(|_| ())
    }
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn string(out: &mut impl Write, s: &str) -> io::Result<()> {
    out.write_all(&(s.len() as u64).to_le_bytes())?;
    out.write_all(s.as_bytes())
}

fn write_value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    let mut scalar = |id: u32, bytes: &[u8]| {
        out.write_all(&id.to_le_bytes())?;
        out.write_all(bytes)
    };
    match value {
        Value::U8(x) => scalar(0, &x.to_le_bytes()),
        Value::I8(x) => scalar(1, &x.to_le_bytes()),
        Value::U16(x) => scalar(2, &x.to_le_bytes()),
        Value::I16(x) => scalar(3, &x.to_le_bytes()),
        Value::U32(x) => scalar(4, &x.to_le_bytes()),
        Value::I32(x) => scalar(5, &x.to_le_bytes()),
        Value::F32(x) => scalar(6, &x.to_le_bytes()),
        Value::Bool(x) => scalar(7, &[u8::from(*x)]),
        Value::String(x) => {
            out.write_all(&8u32.to_le_bytes())?;
            string(out, x)
        }
        Value::Array(array) => {
            out.write_all(&9u32.to_le_bytes())?;
            write_array(out, array)
        }
        Value::U64(x) => scalar(10, &x.to_le_bytes()),
        Value::I64(x) => scalar(11, &x.to_le_bytes()),
        Value::F64(x) => scalar(12, &x.to_le_bytes()),
    }
}

fn write_array(out: &mut impl Write, array: &Array) -> io::Result<()> {
    fn scalars<T: Copy, const N: usize>(
        out: &mut impl Write,
        id: u32,
        values: &[T],
        bytes: impl Fn(T) -> [u8; N],
    ) -> io::Result<()> {
        head(out, id, values.len())?;
        values.iter().try_for_each(|&x| out.write_all(&bytes(x)))
    }
    fn head(out: &mut impl Write, id: u32, len: usize) -> io::Result<()> {
        out.write_all(&id.to_le_bytes())?;
        out.write_all(&(len as u64).to_le_bytes())
    }
    match array {
        Array::U8(v) => scalars(out, 0, v, u8::to_le_bytes),
        Array::I8(v) => scalars(out, 1, v, i8::to_le_bytes),
        Array::U16(v) => scalars(out, 2, v, u16::to_le_bytes),
        Array::I16(v) => scalars(out, 3, v, i16::to_le_bytes),
        Array::U32(v) => scalars(out, 4, v, u32::to_le_bytes),
        Array::I32(v) => scalars(out, 5, v, i32::to_le_bytes),
        Array::F32(v) => scalars(out, 6, v, f32::to_le_bytes),
        Array::Bool(v) => scalars(out, 7, v, |x| [u8::from(x)]),
        Array::Strings(v) => {
            head(out, 8, v.len())?;
            v.iter().try_for_each(|s| string(out, s))
        }
        Array::Arrays(v) => {
            head(out, 9, v.len())?;
            v.iter().try_for_each(|inner| write_array(out, inner))
        }
        Array::U64(v) => scalars(out, 10, v, u64::to_le_bytes),
        Array::I64(v) => scalars(out, 11, v, i64::to_le_bytes),
        Array::F64(v) => scalars(out, 12, v, f64::to_le_bytes),
    }
}
