// Sums over the lanes, which are the neighbouring threads that share a unit. LANES is a power of two.
#if LANES=one
override GROUP: u32 = 16u;
const LANES = 1u;

fn sum_lanes(thread: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}
#endif
#if LANES=shared
const GROUP = 64u;
override LANES: u32;

var<workgroup> partial: array<vec4<f32>, 64>;

fn sum_lanes(thread: u32, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    partial[thread] = value;
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread % LANES < stride {
            partial[thread] += partial[thread + stride];
        }
    }
    workgroupBarrier();
    return partial[thread - thread % LANES];
}
#endif
#if LANES=subgroup
const GROUP = 64u;
override LANES: u32;

// LANES is at most the subgroup size.
fn sum_lanes(thread: u32, value: vec4<f32>) -> vec4<f32> {
    var sum = value;
    for (var stride = LANES / 2u; stride > 0u; stride /= 2u) {
        sum += subgroupShuffleXor(sum, stride);
    }
    return sum;
}
#endif
