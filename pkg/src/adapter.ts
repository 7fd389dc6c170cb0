/** The facts about the browser's WebGPU adapter that wgpu, which opens the device, does not report. */
export interface Adapter {
  name: string;
  /** Software on the CPU. */
  isFallback: boolean;
  /** Size of the smallest subgroup; 0 without subgroups. */
  subgroupSize: number;
  /** WGSL has packed integer dot products. */
  packedDot: boolean;
}

/** The adapter that the runtime will find, or null. */
export async function adapter(): Promise<Adapter | null> {
  const found = await navigator.gpu
    ?.requestAdapter({ powerPreference: "high-performance" })
    .catch(() => null);
  if (!found) return null;
  const { description, vendor, architecture, subgroupMinSize } = found.info;
  // Older browsers have it here and not in `info`.
  const { isFallbackAdapter = false } = found as { isFallbackAdapter?: boolean };
  return {
    name: description || [vendor, architecture].filter(Boolean).join(" "),
    isFallback: found.info.isFallbackAdapter ?? isFallbackAdapter,
    subgroupSize: found.features.has("subgroups") ? (subgroupMinSize ?? 0) : 0,
    packedDot: navigator.gpu.wgslLanguageFeatures.has("packed_4x8_integer_dot_product"),
  };
}

let granted = false;

/**
 * wgpu cannot request subgroups in browsers, so every device that this worker opens gets them if its adapter
 * has them.
 */
export function grantSubgroups(): void {
  if (granted) return;
  granted = true;
  const prototype = GPUAdapter.prototype;
  // eslint-disable-next-line @typescript-eslint/unbound-method
  const request = prototype.requestDevice;
  prototype.requestDevice = function (descriptor = {}) {
    if (!this.features.has("subgroups")) return request.call(this, descriptor);
    const requiredFeatures: GPUFeatureName[] = [...(descriptor.requiredFeatures ?? []), "subgroups"];
    return request.call(this, { ...descriptor, requiredFeatures });
  };
}
