/** What the browser calls its WebGPU adapter, which wgpu does not pass on; empty where there is none. */
export async function adapterName(): Promise<string> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return "";
  const { description, vendor, architecture } = adapter.info;
  return description || [vendor, architecture].filter(Boolean).join(" ");
}
