/** The browser's WebGPU adapter: its name, which wgpu does not pass on, and whether it is software; null where there is none. */
export async function adapter(): Promise<{ name: string; isFallback: boolean } | null> {
  const found = await navigator.gpu
    ?.requestAdapter({ powerPreference: "high-performance" })
    .catch(() => null);
  if (!found) return null;
  const { description, vendor, architecture } = found.info;
  const name = description || [vendor, architecture].filter(Boolean).join(" ");
  // Where it stood before it moved to `info`.
  const { isFallbackAdapter = false } = found as { isFallbackAdapter?: boolean };
  return { name, isFallback: found.info.isFallbackAdapter ?? isFallbackAdapter };
}
