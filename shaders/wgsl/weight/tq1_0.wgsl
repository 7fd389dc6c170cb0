// TQ1_0: w = d (q - 1). For each 256 weights 13 words, whose bytes have up to five digits to the base of 3,
// and d as f16. A byte is a fraction: times 3, its whole part is digit 0, and so on with the rest.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 13>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_32
#import weight/packed_32
#import weight/scale_256

fn power_of_3(n: u32) -> u32 {
    return select(1u, 3u, (n & 1u) != 0u) * select(1u, 9u, (n & 2u) != 0u) * select(1u, 81u, n >= 4u);
}

// The digits that powers of 3 bring to the front of the bytes.
fn digits(words: vec4<u32>, powers: vec4<u32>) -> vec4<u32> {
    let mask = vec4<u32>(0x00ff00ffu);
    let even = ((((words & mask) * powers) & mask) * 3u) >> vec4<u32>(8u);
    let odd = ((((words >> vec4<u32>(8u)) & mask) * powers) & mask) * 3u;
    return (even & vec4<u32>(0x00030003u)) | (odd & vec4<u32>(0x03000300u));
}

// Where the digits of one side of a block are: the first word, the distance of the next, which digit of the
// first word, and how far the digit of the next is.
fn place(block: u32, side: u32) -> vec4<u32> {
    if block < 5u {
        return vec4<u32>(4u * side, 1u, block, 0u);
    }
    // The words in the middle have five sides, the last word has one, a digit for each four weights.
    let n = 2u * block - 10u + side;
    return select(vec4<u32>(8u, 1u, n, 0u), vec4<u32>(12u, 0u, 0u, 1u), n == 5u);
}

fn side_of(i: u32, side: u32) -> vec4<u32> {
    let at = i / 8u;
    let p = place(i % 8u, side);
    return digits(
        vec4<u32>(
            quants[at][p.x], quants[at][p.x + p.y], quants[at][p.x + 2u * p.y], quants[at][p.x + 3u * p.y],
        ),
        vec4<u32>(
            power_of_3(p.z), power_of_3(p.z + p.w), power_of_3(p.z + 2u * p.w), power_of_3(p.z + 3u * p.w),
        ),
    );
}

fn integers(i: u32) -> Integers {
    return Integers(side_of(i, 0u), side_of(i, 1u));
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    let p = place(i % 8u, j / 4u);
    let k = j % 4u;
    let word = quants[i / 8u][p.x + k * p.y];
    return digits(vec4<u32>(word), vec4<u32>(power_of_3(p.z + k * p.w))).x;
}
