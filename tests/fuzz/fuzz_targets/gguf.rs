//! Any bytes as a GGUF file, in pieces: its header is read or refused with an error, whatever the pieces. A
//! model is built from what is read, or refused; so is all that loading makes before it asks for the data.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nomoat_runtime::engine::{LoadOptions, inspect};
use nomoat_runtime::gguf::{GgufError, Header, HeaderReader};
use nomoat_runtime::model::{Config, Tensors, build};

fn read(bytes: &[u8], piece: usize) -> Result<Header, GgufError> {
    let mut reader = HeaderReader::new(bytes.len() as u64);
    for piece in bytes.chunks(piece) {
        if reader.push(piece)? == 0 {
            break;
        }
    }
    reader.finish()
}

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes, bytes.len().max(1));
    // What is not GGUF is recognised by what has arrived of it.
    let is_foreign = !bytes.starts_with(b"GGUF");
    let header = match (whole, read(bytes, 7)) {
        (Ok(header), Ok(same)) => {
            assert_eq!(header.tensors, same.tensors);
            header
        }
        (Err(one), Err(other)) => {
            assert!(is_foreign || one == other, "{one} / {other}");
            return;
        }
        (whole, pieces) => panic!("{whole:?} / {pieces:?}"),
    };
    for tensor in &header.tensors {
        assert!(tensor.offset >= header.data_offset);
        assert!(tensor.offset + tensor.n_bytes <= bytes.len() as u64);
    }
    for (key, value) in header.metadata.iter() {
        value.summary();
        let _ = (header.metadata.str(key), header.metadata.u32(key), header.metadata.bools(key));
        let _ = (header.metadata.f32(key), header.metadata.f32s(key), header.metadata.u64s(key));
    }
    let headers = vec![header];
    // Without a vocabulary, so that it need not be valid.
    let config = Config::from_metadata(&headers[0].metadata, 64);
    if let (Ok(config), Ok(tensors)) = (config, Tensors::of(&headers)) {
        let _ = build(&config, &tensors);
    }
    let _ = inspect(headers, &LoadOptions::default());
});
