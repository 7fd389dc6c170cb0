use super::*;
use crate::gguf::{HeaderReader, TensorType, Writer};
use crate::graph::Builder;
use crate::model::Tensors;

/// Quants and scales.
type Planes = (Vec<u8>, Vec<u8>);

/// Stores weights as a device does.
#[derive(Default)]
struct Memory {
    matrices: HashMap<usize, Planes>,
    vectors: HashMap<usize, Vec<f32>>,
    largest: usize,
}

impl Sink for Memory {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        assert_eq!(first_block % 4, 0);
        let (q, s) = self.matrices.entry(weight.0).or_default();
        // A Q4_0 block has 18 bytes: 16 of quants and 2 of the scale.
        assert_eq!((q.len(), s.len()), (first_block * 16, first_block * 2));
        q.extend_from_slice(quants);
        s.extend_from_slice(scales);
        self.largest = self.largest.max(quants.len());
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        self.vectors.insert(weight.0, numbers.to_vec());
    }
}

const ROWS: usize = 601;
const COLS: usize = 96 * 32;

fn file() -> (Vec<u8>, Vec<u8>, Vec<f32>) {
    let matrix: Vec<u8> = (0..ROWS * COLS / 32 * 18).map(|i| (i * 31 % 253) as u8).collect();
    let vector: Vec<f32> = (0..10).map(|i| i as f32 / 3.0).collect();
    let mut bytes = Vec::new();
    let writer = Writer::new()
        .metadata("general.architecture", "test")
        .tensor("v", &[10], TensorType::F32)
        .tensor("unused", &[3], TensorType::F32)
        .tensor("m", &[ROWS as u64, COLS as u64], TensorType::Q4_0);
    writer
        .write(&mut bytes, |tensor, out| match tensor {
            0 => out.write_all(bytemuck::cast_slice(&vector)),
            1 => out.write_all(&[0; 12]),
            _ => out.write_all(&matrix),
        })
        .unwrap();
    (bytes, matrix, vector)
}

fn load(bytes: &[u8], piece: usize, memory: &mut Memory) -> Result<String, LoadError> {
    let mut reader = HeaderReader::new(bytes.len() as u64);
    reader.push(bytes).unwrap();
    let headers = [reader.finish().unwrap()];
    let mut g = Builder::default();
    g.matrix("m", ROWS, COLS);
    g.vector("v", 10);
    let graph = g.finish();
    let formats = formats(&graph, &Tensors::of(&headers).unwrap()).unwrap();
    let mut loader = FileLoader::new(bytes.len() as u64, &headers[0], &graph, &formats);
    for piece in bytes.chunks(piece) {
        loader.push(piece, memory)?;
    }
    loader.finish()
}

#[test]
fn pieces_of_any_size_give_the_same_weights() {
    let (bytes, matrix, vector) = file();
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    Format::Q4_0.repack(&matrix, &mut quants, &mut scales);
    for piece in [997, 1 << 16, bytes.len()] {
        let mut memory = Memory::default();
        load(&bytes, piece, &mut memory).unwrap();
        assert_eq!(memory.matrices[&0], (quants.clone(), scales.clone()), "pieces of {piece}");
        assert_eq!(memory.vectors[&1], vector);
        assert!(memory.largest <= PIECE);
    }
}

/// Zeros follow each row, up to a whole block.
#[test]
fn rows_of_any_length_become_whole_blocks() {
    const WIDTH: usize = 41;
    let numbers: Vec<f32> = (0..3000 * WIDTH).map(|i| i as f32).collect();
    let writer = Writer::new().metadata("general.architecture", "test");
    let mut bytes = Vec::new();
    let writer = writer.tensor("m", &[3000, WIDTH as u64], TensorType::F32);
    writer.write(&mut bytes, |_, out| out.write_all(bytemuck::cast_slice(&numbers))).unwrap();
    let mut reader = HeaderReader::new(bytes.len() as u64);
    reader.push(&bytes).unwrap();
    let header = reader.finish().unwrap();
    let mut g = Builder::default();
    g.matrix("m", 3000, WIDTH);
    let graph = g.finish();
    for piece in [1001, bytes.len()] {
        let mut blocks = Rows(Vec::new());
        let mut loader = FileLoader::new(bytes.len() as u64, &header, &graph, &[Format::F32]);
        bytes.chunks(piece).for_each(|piece| loader.push(piece, &mut blocks).unwrap());
        loader.finish().unwrap();
        assert_eq!(blocks.0.len(), 3000 * 64);
        for (row, block) in numbers.chunks_exact(WIDTH).zip(blocks.0.chunks_exact(64)) {
            assert_eq!(&block[..WIDTH], row);
            assert_eq!(block[WIDTH..], [0.0; 64 - WIDTH]);
        }
    }
}

/// The floats of a matrix.
struct Rows(Vec<f32>);

impl Sink for Rows {
    fn write_blocks(&mut self, _: WeightId, first_block: usize, quants: &[u8], _: &[u8]) {
        assert_eq!(self.0.len(), first_block * 32);
        self.0.extend(bytemuck::pod_collect_to_vec::<u8, f32>(quants));
    }

    fn write_vector(&mut self, _: WeightId, _: &[f32]) {}
}

#[test]
fn the_digest_covers_the_whole_file() {
    let (bytes, ..) = file();
    let digest = load(&bytes, 4096, &mut Memory::default()).unwrap();
    let expected: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, expected);
    let empty: String = Sha256::digest([]).iter().map(|b| format!("{b:02x}")).collect();
    assert!(empty.starts_with("e3b0c44298fc1c14"));
}

#[test]
fn too_few_and_too_many_bytes_are_errors() {
    let (bytes, ..) = file();
    let n = bytes.len() as u64;
    let mut reader = HeaderReader::new(n);
    reader.push(&bytes).unwrap();
    let header = reader.finish().unwrap();
    let mut loader = FileLoader::new(n, &header, &Graph::default(), &[]);
    loader.push(&bytes[1..], &mut Memory::default()).unwrap();
    assert_eq!(
        loader.push(&[0, 0], &mut Memory::default()),
        Err(LoadError::Size { expected: n, found: n + 1 })
    );
    assert_eq!(loader.finish(), Err(LoadError::Size { expected: n, found: n - 1 }));
}
