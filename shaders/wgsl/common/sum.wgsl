// The sum of the numbers of 64 threads.
var<workgroup> partial: array<f32, 64>;

fn sum_of_all(thread: u32, number: f32) -> f32 {
    // The sum before may still be read.
    workgroupBarrier();
    partial[thread] = number;
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            partial[thread] += partial[thread + stride];
        }
    }
    workgroupBarrier();
    return partial[0];
}
