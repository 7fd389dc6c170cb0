/** Counts bytes while a model loads and reports them about ten times a second. */
import type { LoadProgress } from "./protocol.js";

const INTERVAL_MS = 100;
/** Time constant of the smoothed speed. */
const SMOOTHING_MS = 2000;

/** A download without a byte for this long is stalled. */
const STALLED_MS = 3000;

/** Progress of one load. */
export class ProgressMeter {
  #phase: LoadProgress["phase"] = "device";
  #loaded = 0;
  #total = 0;
  #downloaded = 0;
  #speed = 0;
  #reportedAt = -Infinity;
  #reportedLoaded = 0;
  readonly #report: (progress: LoadProgress) => void;
  readonly #now: () => number;

  constructor(report: (progress: LoadProgress) => void, now: () => number = () => performance.now()) {
    this.#report = report;
    this.#now = now;
  }

  /** Starts a phase with `loaded` bytes already there, and reports at once. */
  phase(phase: LoadProgress["phase"], loaded: number, total: number): void {
    if (phase !== this.#phase) this.#speed = 0;
    this.#phase = phase;
    this.#loaded = loaded;
    this.#total = total;
    this.#reportedLoaded = loaded;
    this.#reportedAt = this.#now();
    this.#send();
  }

  /** Bytes arrived from the network; negative if they must be fetched again. */
  fetched(delta: number): void {
    this.#downloaded += delta;
    if (this.#phase === "download") this.#add(delta);
  }

  /** Bytes of an earlier download were found. */
  resumed(bytes: number): void {
    if (this.#phase === "download") this.#add(bytes);
  }

  /** Reports a stalled download. Called regularly. */
  tick(): void {
    if (this.#phase !== "download" || this.#now() - this.#reportedAt < STALLED_MS) return;
    this.#speed = 0;
    this.#send();
  }

  /** Bytes were copied to the device. */
  pushed(delta: number): void {
    if (this.#phase === "load") this.#add(delta);
  }

  #add(delta: number): void {
    this.#loaded = Math.max(0, this.#loaded + delta);
    const now = this.#now();
    const elapsed = now - this.#reportedAt;
    if (elapsed < INTERVAL_MS) return;
    const speed = (Math.max(0, this.#loaded - this.#reportedLoaded) / elapsed) * 1000;
    const weight = 1 - Math.exp(-elapsed / SMOOTHING_MS);
    this.#speed = this.#speed === 0 ? speed : this.#speed + weight * (speed - this.#speed);
    this.#reportedAt = now;
    this.#reportedLoaded = this.#loaded;
    this.#send();
  }

  #send(): void {
    // A damaged shard that is fetched again counts twice, so the sum is limited to the total.
    const loaded = Math.min(this.#loaded, this.#total);
    this.#report({
      phase: this.#phase,
      loaded,
      total: this.#total,
      downloaded: Math.max(0, this.#downloaded),
      bytesPerSecond: Math.round(this.#speed),
      secondsLeft: this.#speed > 0 ? (this.#total - loaded) / this.#speed : null,
    });
  }
}
