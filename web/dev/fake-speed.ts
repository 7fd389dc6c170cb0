/** The part of the stand-in that says how fast the device is. */
import type { DeviceSpeed, MeasureOptions } from "nomoat";
import { chooseDevice, pause } from "./fake-nomoat";

/** Eight gigabytes per second on the CPU, eighty on a GPU. */
export async function measureSpeed({ device, signal }: MeasureOptions): Promise<DeviceSpeed> {
  await pause(100, signal);
  const { backend } = await chooseDevice(device);
  return { backend, bytesPerSecond: backend === "cpu" ? 8e9 : 80e9, secondsPerToken: 0.002 };
}

export function expectedSpeed(speed: DeviceSpeed, bytesPerToken: number): number {
  return 1 / (speed.secondsPerToken + bytesPerToken / speed.bytesPerSecond);
}
