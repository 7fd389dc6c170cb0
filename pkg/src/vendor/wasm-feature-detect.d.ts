// The part of the npm package wasm-feature-detect that is used; the build copies the package to dist/vendor.
export function relaxedSimd(): Promise<boolean>;
export function simd(): Promise<boolean>;
export function threads(): Promise<boolean>;
