//! Mixtures of experts.

use super::*;

/// Steps of one row, of a few and of many.
#[test]
fn experts() {
    for case in cases::experts() {
        check_with("shared:4,tile,f32", case.clone());
        check_with("one,few", case);
    }
}

/// Experts that do not fit into one binding are in several; one that does not fit is an error.
#[test]
fn experts_in_pieces() {
    let mut gpu = device();
    gpu.pretend(|info| info.max_binding_size = 21_000);
    for case in cases::experts().into_iter().take(3) {
        let weights = upload(&case, &gpu).unwrap();
        let pieces: Vec<usize> =
            (0..case.graph.weights.len()).map(|i| weights.pieces(WeightId(i)).len()).collect();
        assert!(pieces.contains(&3), "{pieces:?}");
        let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
        assert!(error <= case.tolerance, "{}: {error}", case.name);
    }
    gpu.pretend(|info| info.max_binding_size = 2300);
    let error = upload(&cases::experts()[0], &gpu).unwrap_err().to_string();
    assert!(error.contains("an expert of Q8_0:gate is larger than a binding of 2300 bytes"), "{error}");
}

/// Route; gate and up; down; sum with residual; then gate, down, sum and product.
#[test]
fn decoding_with_experts_takes_few_dispatches() {
    let mut gpu = device();
    gpu.set_variants(Variants::parse("tile", gpu.info()).unwrap());
    let case = &cases::experts()[0];
    let weights = upload(case, &gpu).unwrap();
    let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
    pollster::block_on(executor.step(&case.step())).unwrap();
    assert_eq!(executor.dispatches(), 4 + 4);
}
