use super::*;

/// SplitMix64 (Steele, Lea and Flood 2014).
fn random() -> impl FnMut() -> u64 {
    let mut state = 0_u64;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn known_blocks() {
    // d = 0.5, m = -1; byte i holds weight i in its low nibble and weight 16 + i in its high one.
    let (d, m) = (half::f16::from_f32(0.5).to_le_bytes(), half::f16::from_f32(-1.0).to_le_bytes());
    let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();

    let q4_0 = Format::Q4_0.dequantise(&[&d[..], &nibbles].concat());
    assert_eq!((q4_0[0], q4_0[15], q4_0[16], q4_0[31]), (-4.0, 3.5, 3.5, -4.0));
    let q4_1 = Format::Q4_1.dequantise(&[&d[..], &m, &nibbles].concat());
    assert_eq!((q4_1[0], q4_1[15], q4_1[16], q4_1[31]), (-1.0, 6.5, 6.5, -1.0));
    let bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(8).wrapping_sub(128)).collect();
    let q8_0 = Format::Q8_0.dequantise(&[&d[..], &bytes].concat());
    assert_eq!((q8_0[0], q8_0[16], q8_0[31]), (-64.0, 0.0, 60.0));
    let floats: Vec<f32> = (0..33).map(|i| i as f32 / 8.0).collect();
    let halves: Vec<u8> = floats.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    assert_eq!(Format::F32.dequantise(bytemuck::cast_slice(&floats)), floats);
    assert_eq!(Format::F16.dequantise(&halves), floats);
}

/// Random blocks and what the `gguf` package makes of them, see `tests/golden/quant/make.py`.
#[test]
fn blocks_mean_what_gguf_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/quant");
    for format in Format::ALL.into_iter().filter(|format| !matches!(format, Format::F32 | Format::F16)) {
        let path = folder.join(format!("{}.bin", format.name().to_lowercase()));
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display())).unwrap();
        let n_blocks = bytes.len() / (format.block_bytes() + 4 * format.block_len());
        assert!(n_blocks >= 2, "{format:?}");
        let (file, expected) = bytes.split_at(n_blocks * format.block_bytes());
        assert_eq!(format.dequantise(file), bytemuck::pod_collect_to_vec::<u8, f32>(expected), "{format:?}");
    }
}

#[test]
fn planes_hold_the_weights_of_the_file() {
    for format in Format::ALL {
        let n_blocks = 5;
        let mut file = format.made_up(n_blocks * format.block_len(), 1.0, random());
        assert_eq!(file.len(), n_blocks * format.block_bytes(), "{format:?}");
        let expected = format.dequantise(&file);
        assert_eq!(expected.len(), n_blocks * format.block_len(), "{format:?}");
        // A part of a block is left out.
        file.extend([1, 2, 3]);
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        format.repack(&file[..2 * format.block_bytes()], &mut quants, &mut scales);
        format.repack(&file[2 * format.block_bytes()..], &mut quants, &mut scales);
        assert_eq!(quants.len(), n_blocks * format.quants_bytes(), "{format:?}");
        assert_eq!(scales.len(), n_blocks * format.scales_bytes(), "{format:?}");
        assert_eq!(format.layout().dequantise(&quants, &scales), expected, "{format:?}");
    }
}

/// What kernels, loaders and binding sizes rely on.
#[test]
fn sizes_fit_kernels() {
    for format in Format::ALL {
        assert!(format.block_len().is_multiple_of(format.layout().block_len()), "{format:?}");
        // Planes take little more than the file.
        assert!(
            20 * (format.quants_bytes() + format.scales_bytes()) <= 21 * format.block_bytes(),
            "{format:?}"
        );
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    for layout in Layout::ALL {
        assert!(layout.block_len().is_multiple_of(BLOCK), "{layout:?}");
        assert!(layout.quants_bytes().is_multiple_of(4), "{layout:?}");
        assert_eq!(Layout::ALL.iter().filter(|other| other.name() == layout.name()).count(), 1);
    }
}

#[test]
fn made_up_weights_have_the_size_asked_for() {
    for format in Format::ALL {
        // The sizes of so many blocks differ by 0.6 % on average.
        let n = format.block_len() << 13;
        let weights = format.dequantise(&format.made_up(n, 0.25, random()));
        let mean_square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        assert!((mean_square * 16.0 - 1.0).abs() < 0.02, "{format:?}: {}", mean_square * 16.0);
    }
    assert_eq!(Format::F32.made_up(10, 1.0, random()).len(), 40);
}

#[test]
fn planes_are_aligned_and_small() {
    let planes = Format::Q4_0.planes(3);
    assert_eq!(planes, Planes { quants: 48, scales_offset: 256, scales: 8 });
    assert_eq!(Format::F16.planes(3).total(), 192);
    let big = Format::Q4_1.planes(1 << 20);
    assert!(big.total() <= 20 << 20);
}
