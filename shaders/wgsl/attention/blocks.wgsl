// Where numbers lie in a layer's part of the KV pool that is stored in blocks of 32, as ggml's. A page holds
// the quants of its PAGE cells, then their scales, which are f16, two per word. A cell has keys, then values.
// Q8_0 has 8 words of quants per block, number i in byte i. Q4_0 has 4 words: number i in the low nibble of
// byte i, number i + 16 in its high nibble, both 8 more than they mean.
#if KV=q8_0
const BLOCK_WORDS = 8u;
#else
const BLOCK_WORDS = 4u;
#endif

// The first word of the block that number `i` of a cell is in, and the block's scale, counted in f16s. A cell
// has `width` numbers.
fn block_at(cell: u32, width: u32, i: u32) -> vec2<u32> {
    let blocks = width / 32u;
    let page = cell / PAGE * (PAGE * blocks * BLOCK_WORDS + PAGE * blocks / 2u);
    let block = cell % PAGE * blocks + i / 32u;
    return vec2<u32>(page + block * BLOCK_WORDS, 2u * (page + PAGE * blocks * BLOCK_WORDS) + block);
}
