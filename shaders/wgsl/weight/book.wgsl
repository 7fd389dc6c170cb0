#import weight/block

// The numbers of the code book BOOK, 16 signed bytes, at four indices: the lower four bits of each byte.
fn entries(indices: u32) -> vec4<i32> {
    let i = vec4<u32>(indices, indices >> 8u, indices >> 16u, indices >> 24u);
    let is_odd = (i & vec4<u32>(4u)) != vec4<u32>();
    let low = select(vec4<u32>(BOOK.x), vec4<u32>(BOOK.y), is_odd);
    let high = select(vec4<u32>(BOOK.z), vec4<u32>(BOOK.w), is_odd);
    let words = select(low, high, (i & vec4<u32>(8u)) != vec4<u32>());
    // The byte becomes the highest, with its sign.
    return vec4<i32>(words << ((~i & vec4<u32>(3u)) << vec4<u32>(3u))) >> vec4<u32>(24u);
}

// Indices 4j .. 4j + 4 of a block, as bytes: of nibbles as in nibbles.wgsl.
fn load_indices(i: u32, j: u32) -> u32 {
    return quants[i][j % 4u] >> (j / 4u * 4u);
}
