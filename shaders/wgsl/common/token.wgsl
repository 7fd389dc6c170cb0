// One row of the step. `cell` is where its keys and values go in the KV pool.
struct Token {
    id: u32,
    position: u32,
    sequence: u32,  // row of the page table
    cell: u32,
}

// The bit of an id that marks the number of a slot.
const FROM_SLOT = 0x80000000u;
