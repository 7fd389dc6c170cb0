#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use super::*;

/// A file built by hand, byte for byte from the format's description.
#[derive(Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, n_tensors: u64, n_metadata: u64) -> Self {
        Raw(b"GGUF".to_vec()).u32(version).u64(n_tensors).u64(n_metadata)
    }
    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn u32(self, x: u32) -> Self {
        self.bytes(&x.to_le_bytes())
    }
    fn u64(self, x: u64) -> Self {
        self.bytes(&x.to_le_bytes())
    }
    fn string(self, s: &str) -> Self {
        self.u64(s.len() as u64).bytes(s.as_bytes())
    }
    /// `ne` in the file's order, first index fastest.
    fn tensor(self, name: &str, ne: &[u64], ty: u32, offset: u64) -> Self {
        let this = self.string(name).u32(ne.len() as u32);
        ne.iter().fold(this, |this, &d| this.u64(d)).u32(ty).u64(offset)
    }
    /// Pads to 32 bytes and appends `n` bytes of data.
    fn data(mut self, n: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + n, 0);
        self
    }
}

/// Reads a whole file, within a second.
fn read(bytes: &[u8]) -> Result<Header, GgufError> {
    let start = Instant::now();
    let mut reader = HeaderReader::new(bytes.len() as u64);
    let result = reader.push(bytes).and_then(|_| reader.finish());
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    result
}

/// The message with which a file fails.
fn refused(raw: Raw) -> String {
    read(&raw.0).expect_err("a hostile file was accepted").to_string()
}

#[track_caller]
fn assert_refused(raw: Raw, words: &[&str]) {
    let message = refused(raw);
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[test]
fn hand_made_file_is_read() {
    let raw = Raw::new(3, 2, 3)
        .string("general.architecture")
        .u32(8)
        .string("llama")
        .string("n")
        .u32(4)
        .u32(7)
        .string("a")
        .u32(9)
        .u32(8)
        .u64(2)
        .string("x")
        .string("é")
        .tensor("w", &[32, 3], 8, 0)
        .tensor("b", &[5], 0, 128)
        .data(128 + 20);
    let header = read(&raw.0).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.alignment, 32);
    assert_eq!(header.metadata.str("general.architecture"), Ok(Some("llama")));
    assert_eq!(header.metadata.u64("n"), Ok(Some(7)));
    assert_eq!(header.metadata.strings("a").unwrap().unwrap(), ["x", "é"]);
    assert_eq!(header.data_offset, raw.0.len() as u64 - 148);
    let w = &header.tensors[0];
    assert_eq!((w.shape.as_slice(), w.ty, w.n_bytes), (&[3, 32][..], TensorType::Q8_0, 3 * 34));
    assert_eq!(header.tensors[1].offset, header.data_offset + 128);
}

#[test]
fn values_of_another_type_are_taken_where_that_leaves_no_doubt() {
    let mut m = Metadata::new();
    let mut set = |key: &str, value: Value| m.insert(key, value);
    set("u8", Value::U8(1));
    set("i32", Value::I32(7));
    set("u64", Value::U64(1_000_000));
    set("whole", Value::F32(4096.0));
    set("bool", Value::Bool(true));
    set("one", Value::Array(Array::I32(vec![5])));
    set("equal", Value::Array(Array::U16(vec![3, 3, 3])));
    set("ones", Value::Array(Array::U8(vec![1, 0])));
    set("name", Value::Array(Array::Strings(vec!["llama".into()])));
    assert_eq!(
        (m.u32("i32"), m.u32("u64"), m.u32("whole")),
        (Ok(Some(7)), Ok(Some(1_000_000)), Ok(Some(4096)))
    );
    assert_eq!((m.u32("one"), m.u64("equal"), m.f32("equal")), (Ok(Some(5)), Ok(Some(3)), Ok(Some(3.0))));
    assert_eq!((m.f32("u64"), m.f32("i32"), m.bool("u8")), (Ok(Some(1e6)), Ok(Some(7.0)), Ok(Some(true))));
    assert_eq!(m.str("name"), Ok(Some("llama")));
    assert_eq!((m.bools("ones"), m.bools("bool")), (Ok(Some(vec![true, false])), Ok(Some(vec![true]))));
    assert_eq!(m.f32s("equal").unwrap().unwrap(), [3.0; 3].as_slice());
    assert_eq!((m.u64s("one"), m.u64s("u8")), (Ok(Some(vec![5])), Ok(Some(vec![1]))));
    assert_eq!((m.u32("none"), m.str("none"), m.f32s("none")), (Ok(None), Ok(None), Ok(None)));
}

#[test]
fn values_that_leave_doubt_are_refused_by_key_and_type() {
    let mut m = Metadata::new();
    let mut set = |key: &str, value: Value| m.insert(key, value);
    set("string", "1e-5".into());
    set("negative", Value::I32(-1));
    set("large", Value::U64(1 << 32));
    set("half", Value::F32(0.5));
    set("nan", Value::F64(f64::NAN));
    set("two", Value::U8(2));
    set("yes", Value::Bool(true));
    set("differ", Value::Array(Array::U32(vec![1, 2])));
    set("empty", Value::Array(Array::U32(vec![])));
    set("nested", Value::Array(Array::Arrays(vec![Array::U8(vec![1])])));
    let error = m.f32("string").unwrap_err().to_string();
    assert_eq!(error, "the metadata key string is the string \"1e-5\", but must be a number");
    let error = m.u32("differ").unwrap_err().to_string();
    assert!(error.contains("differ is a list of 2 integers, but must be an integer"), "{error}");
    for key in ["string", "negative", "large", "half", "nan", "yes", "differ", "empty", "nested"] {
        assert!(m.u32(key).unwrap_err().to_string().contains(&format!("key {key} is")));
    }
    for key in ["string", "negative", "large", "half", "nan", "two", "differ"] {
        assert!(m.bool(key).is_err() && m.str(key).is_err() == (key != "string"), "{key}");
    }
    assert!(m.u64("negative").is_err() && m.u64s("negative").is_err() && m.u64s("yes").is_err());
    assert!(m.i32s("string").is_err() && m.f32s("nested").is_err() && m.bools("two").is_err());
    assert!(m.strings("string").is_err() && m.strings("differ").is_err() && m.f32("yes").is_err());
}

fn sample() -> (Writer, Vec<u8>) {
    let nested = Array::Arrays(vec![Array::U8(vec![1, 2]), Array::Strings(vec!["z".into()])]);
    let writer = Writer::new()
        .metadata("general.architecture", "test")
        .metadata("general.alignment", 64u32)
        .metadata("u8", Value::U8(200))
        .metadata("i8", Value::I8(-3))
        .metadata("u16", Value::U16(60_000))
        .metadata("i16", Value::I16(-300))
        .metadata("i32", -70_000)
        .metadata("u64", u64::MAX)
        .metadata("i64", i64::MIN)
        .metadata("f32", 1.5f32)
        .metadata("f64", Value::F64(0.1))
        .metadata("yes", true)
        .metadata("text", "日本語 🙂")
        .metadata("strings", &["a", "", "ccc"][..])
        .metadata("i32s", vec![-1, 0, 1])
        .metadata("f32s", vec![0.5f32, -2.0])
        .metadata("bools", vec![true, false])
        .metadata("empty", Vec::<u32>::new())
        .metadata("nested", Value::Array(nested))
        .tensor("q", &[2, 64], TensorType::Q4_0)
        .tensor("f", &[2, 3, 5], TensorType::F32)
        .tensor("k", &[256], TensorType::Q6_K);
    let mut bytes = Vec::new();
    let sizes = [4 * 18, 30 * 4, 210];
    writer.write(&mut bytes, |i, out| out.write_all(&vec![i as u8 + 1; sizes[i]])).unwrap();
    (writer, bytes)
}

#[test]
fn written_file_reads_back() {
    let (_, bytes) = sample();
    let header = read(&bytes).unwrap();
    let m = &header.metadata;
    assert_eq!(header.alignment, 64);
    assert_eq!((m.u32("u8"), m.u64("u64")), (Ok(Some(200)), Ok(Some(u64::MAX))));
    assert_eq!(m.get("i64"), Some(&Value::I64(i64::MIN)));
    assert_eq!((m.f32("f32"), m.f32("f64")), (Ok(Some(1.5)), Ok(Some(0.1))));
    assert_eq!((m.bool("yes"), m.str("text")), (Ok(Some(true)), Ok(Some("日本語 🙂"))));
    assert_eq!(m.strings("strings").unwrap().unwrap(), ["a", "", "ccc"]);
    assert_eq!(m.i32s("i32s").unwrap().unwrap(), [-1, 0, 1].as_slice());
    assert_eq!(m.f32s("f32s").unwrap().unwrap(), [0.5, -2.0].as_slice());
    assert_eq!(m.bools("bools").unwrap().unwrap(), [true, false]);
    assert_eq!(m.get("empty"), Some(&Value::Array(Array::U32(Vec::new()))));
    assert!(matches!(m.get("nested"), Some(Value::Array(Array::Arrays(v))) if v[0] == Array::U8(vec![1, 2])));
    let keys: Vec<&str> = m.iter().map(|(key, _)| key).collect();
    assert_eq!(keys[..3], ["general.architecture", "general.alignment", "u8"]);
    for (i, (tensor, shape)) in header.tensors.iter().zip([&[2u64, 64][..], &[2, 3, 5], &[256]]).enumerate() {
        assert_eq!(tensor.shape, shape);
        assert_eq!(tensor.offset % 64, 0);
        let data = &bytes[tensor.offset as usize..][..tensor.n_bytes as usize];
        assert!(data.iter().all(|&b| b == i as u8 + 1));
    }
}

#[test]
fn cuts_do_not_matter() {
    let (_, bytes) = sample();
    let whole = read(&bytes).unwrap();
    for step in [1, 2, 3, 7, 24, 100] {
        let mut reader = HeaderReader::new(bytes.len() as u64);
        let mut at = 0;
        loop {
            let wanted = reader.push(&bytes[at..(at + step).min(bytes.len())]).unwrap();
            at += step;
            if wanted == 0 {
                break;
            }
            assert!(at < bytes.len());
        }
        let header = reader.finish().unwrap();
        assert_eq!(header.metadata, whole.metadata);
        assert_eq!(header.tensors, whole.tensors);
    }
}

#[test]
fn asking_for_no_more_than_wanted_reads_only_the_header() {
    let (_, bytes) = sample();
    let data_offset = read(&bytes).unwrap().data_offset as usize;
    let mut reader = HeaderReader::new(bytes.len() as u64);
    let (mut at, mut wanted) = (0, reader.push(&[]).unwrap());
    while wanted > 0 {
        let next = at + wanted;
        wanted = reader.push(&bytes[at..next]).unwrap();
        at = next;
    }
    assert!(at <= data_offset);
    reader.finish().unwrap();
}

#[test]
fn take_hands_an_array_over() {
    let (_, bytes) = sample();
    let mut metadata = read(&bytes).unwrap().metadata;
    assert!(matches!(metadata.take("strings"), Some(Value::Array(Array::Strings(v))) if v.len() == 3));
    assert!(metadata.take("strings").is_none() && metadata.get("text").is_some());
}

#[test]
fn writer_refuses_wrong_data() {
    let writer = Writer::new().tensor("t", &[4], TensorType::F32);
    let error = writer.write(Vec::new(), |_, out| out.write_all(&[0; 15])).unwrap_err();
    assert!(error.to_string().contains("takes 16 bytes"));
    let writer = Writer::new().tensor("t", &[33], TensorType::Q4_0);
    assert!(writer.write(Vec::new(), |_, _| Ok(())).is_err());
}

#[test]
fn every_truncation_is_an_error() {
    let (_, bytes) = sample();
    let padding = 256 - 210; // After the last tensor, where it may be missing.
    for n in 0..bytes.len() - padding {
        assert!(read(&bytes[..n]).is_err(), "{n} of {} bytes were accepted", bytes.len());
    }
    // A reader that receives only a part of the file fails, too.
    let mut reader = HeaderReader::new(bytes.len() as u64);
    assert!(reader.push(&bytes[..100]).unwrap() > 0);
    assert!(matches!(reader.finish(), Err(GgufError::Truncated { .. })));
}

#[test]
fn foreign_files() {
    let named = |beginning: &str, size: usize| {
        let mut bytes = beginning.as_bytes().to_vec();
        bytes.resize(size, b' ');
        // In one piece and byte by byte.
        let mut reader = HeaderReader::new(size as u64);
        let one_by_one = bytes.iter().find_map(|byte| reader.push(&[*byte]).err());
        let whole = read(&bytes).unwrap_err();
        assert_eq!(one_by_one.as_ref(), Some(&whole));
        whole
    };
    for page in ["<!DOCTYPE html><html><body>", "<html lang=en><head></head>", "<?xml version='1.0'?><html>"]
    {
        assert_eq!(named(page, 100), GgufError::WebPage);
    }
    assert_eq!(read("\u{feff}\r\n  <!doctype HTML>".repeat(9).as_bytes()).unwrap_err(), GgufError::WebPage);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 98\n";
    assert_eq!(read(pointer.as_bytes()).unwrap_err(), GgufError::LfsPointer);
    assert_eq!(named("<3 no page at all", 40), GgufError::NotGguf(*b"<3 n"));
    assert_eq!(named("GGML", 5), GgufError::NotGguf(*b"GGML"));
    assert_refused(Raw::default().bytes(b"PK\x03\x04").data(64), &["not a GGUF file"]);
    assert_refused(Raw::new(1, 0, 0).data(64), &["version 1"]);
    assert_refused(Raw::new(4, 0, 0).data(64), &["version 4"]);
    assert_refused(Raw::new(3u32.swap_bytes(), 0, 0).data(64), &["big-endian"]);
    assert!(matches!(read(&[]), Err(GgufError::Truncated { .. })));
}

#[test]
fn huge_counts() {
    assert_refused(Raw::new(3, u64::MAX, 0), &["tensors", "do not fit"]);
    assert_refused(Raw::new(3, 0, u64::MAX), &["metadata entries", "do not fit"]);
    assert_refused(Raw::new(3, 0, 1 << 40), &["do not fit"]);
    assert_refused(Raw::new(3, 0, 1).string("k").u32(8).u64(1 << 50).data(64), &["\"k\"", "string of"]);
    assert_refused(Raw::new(3, 0, 1).u64(u64::MAX).data(64), &["key", "string of"]);
    assert_refused(Raw::new(3, 0, 1).string("k").u32(9).u32(4).u64(1 << 60).data(64), &["\"k\"", "array of"]);
    assert_refused(Raw::new(3, 0, 1).string("k").u32(9).u32(8).u64(99).data(64), &["\"k\"", "array of"]);
    assert_refused(Raw::new(3, 1, 0).u64(1 << 40).data(64), &["name", "string of"]);
}

/// Memory is not allocated ahead of the bytes, even for counts that the claimed file size allows.
#[test]
fn claimed_sizes_allocate_nothing() {
    let raw = Raw::new(3, 0, 1).string("k").u32(9).u32(8).u64(4 << 20);
    let mut reader = HeaderReader::new(1 << 40);
    reader.push(&raw.0).unwrap();
    let raw = Raw::new(3, 0, 1).string("k").u32(9).u32(8).u64(1 << 25);
    assert!(HeaderReader::new(1 << 40).push(&raw.0).unwrap_err().to_string().contains("all arrays together"));
    let raw = Raw::new(3, 0, 1).string("k").u32(9).u32(0).u64(1 << 30);
    assert!(HeaderReader::new(1 << 40).push(&raw.0).is_err());
    let raw = Raw::new(3, 0, 1).string("k").u32(8).u64(17 << 20);
    assert!(HeaderReader::new(1 << 40).push(&raw.0).unwrap_err().to_string().contains("at most"));
    let raw = Raw::new(3, 0, 1 << 20);
    assert!(HeaderReader::new(1 << 40).push(&raw.0).unwrap_err().to_string().contains("at most"));
}

#[test]
fn header_size_is_bounded() {
    // Seventeen strings of 16 MiB: each is allowed, together they exceed the limit of a header.
    let mut reader = HeaderReader::new(1 << 40);
    reader.push(&Raw::new(3, 0, 17).0).unwrap();
    let body = vec![b'x'; 16 << 20];
    let mut result = Ok(1);
    for i in 0..17 {
        result = reader
            .push(&Raw::default().string(&format!("k{i}")).u32(8).u64(body.len() as u64).0)
            .and_then(|_| reader.push(&body));
        if result.is_err() {
            break;
        }
    }
    assert!(result.unwrap_err().to_string().contains("larger than"));
}

#[test]
fn bad_metadata() {
    let long = "k".repeat(65 << 10);
    assert_refused(Raw::new(3, 0, 1).string(&long).u32(4).u32(0), &["key", "at most 65536"]);
    assert_refused(Raw::new(3, 0, 1).string("k").u32(13).data(64), &["\"k\"", "unknown value type 13"]);
    assert_refused(
        Raw::new(3, 0, 1).string("k").u32(9).u32(99).u64(1).data(64),
        &["unknown array element type 99"],
    );
    assert_refused(Raw::new(3, 0, 1).string("k").u32(7).bytes(&[2]).data(64), &["not a boolean"]);
    assert_refused(Raw::new(3, 0, 1).string("k").u32(8).u64(2).bytes(&[0xff, 0xfe]).data(64), &["UTF-8"]);
    let twice = Raw::new(3, 0, 2).string("k").u32(4).u32(1).string("k").u32(4).u32(2);
    assert_refused(twice.data(64), &["\"k\"", "twice"]);
    let deep = (0..5).fold(Raw::new(3, 0, 1).string("k").u32(9), |raw, _| raw.u32(9).u64(1));
    assert_refused(deep.data(256), &["nested more than 3 deep"]);
    for alignment in [0, 3, 48, 1 << 20] {
        let raw = Raw::new(3, 0, 1).string("general.alignment").u32(4).u32(alignment).data(64);
        assert_refused(raw, &["general.alignment", "power of two"]);
    }
    let raw = Raw::new(3, 0, 1).string("general.alignment").u32(8).string("32").data(64);
    assert_refused(raw, &["general.alignment", "string", "integer"]);
}

#[test]
fn bad_tensors() {
    let one = || Raw::new(3, 1, 0);
    assert_refused(one().tensor(&"n".repeat(300), &[1], 0, 0).data(4), &["name", "at most 255"]);
    assert_refused(one().tensor("t", &[], 0, 0).data(4), &["\"t\"", "0 dimensions"]);
    assert_refused(one().tensor("t", &[1; 5], 0, 0).data(4), &["5 dimensions"]);
    assert_refused(one().tensor("t", &[4, 0], 0, 0).data(4), &["dimension of zero"]);
    assert_refused(one().tensor("t", &[1 << 32, 1 << 32, 2], 0, 0).data(4), &["larger than any file"]);
    assert_refused(one().tensor("t", &[1 << 62], 0, 0).data(4), &["larger than any file"]);
    assert_refused(one().tensor("t", &[33], 2, 0).data(64), &["33", "Q4_0 blocks of 32"]);
    assert_refused(one().tensor("t", &[4], 0, 16).data(64), &["not a multiple of 32"]);
    assert_refused(one().tensor("t", &[64], 0, 0).data(255), &["\"t\"", "end after the file"]);
    assert_refused(one().tensor("t", &[4], 0, u64::MAX - 31).data(64), &["end after the file"]);
    assert_refused(one().tensor("t", &[4], 99, 1 << 40).data(64), &["end after the file"]);
    let twice = Raw::new(3, 2, 0).tensor("t", &[4], 0, 0).tensor("t", &[4], 0, 32);
    assert_refused(twice.data(64), &["\"t\"", "twice"]);
    let overlap = Raw::new(3, 2, 0).tensor("b", &[4], 0, 32).tensor("a", &[16], 0, 0);
    assert_refused(overlap.data(64), &["\"b\"", "overlaps with \"a\""]);
    let same = Raw::new(3, 2, 0).tensor("a", &[4], 0, 0).tensor("b", &[4], 0, 0);
    assert_refused(same.data(64), &["overlaps"]);
}

#[test]
fn unknown_tensor_type_is_listed() {
    let raw = Raw::new(3, 2, 0).tensor("t", &[7], 99, 0).tensor("u", &[4], 0, 32).data(48);
    let header = read(&raw.0).unwrap();
    assert_eq!(header.tensors[0].ty, TensorType::Unknown(99));
    assert_eq!((header.tensors[0].ty.name().as_str(), header.tensors[0].n_bytes), ("type 99", 0));
}

#[test]
fn messages_stay_short() {
    let message = refused(Raw::new(3, 0, 1).string(&"é".repeat(20_000)).u32(77).data(64));
    assert!(message.len() < 400, "{} bytes", message.len());
}

/// Damaged files never panic, whichever byte is hit; `read` bounds the time.
#[test]
fn random_mutations() {
    let (_, bytes) = sample();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random() % 3 {
            let at = random() as usize % damaged.len();
            match random() % 4 {
                0 => damaged[at] = random() as u8,
                1 => damaged[at] ^= 1 << (random() % 8),
                2 => damaged[at] = 0xff,
                _ => damaged.truncate(at.max(1)),
            }
        }
        match read(&damaged) {
            Ok(header) => {
                accepted += 1;
                for tensor in header.tensors {
                    assert!(tensor.offset + tensor.n_bytes <= damaged.len() as u64);
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}
