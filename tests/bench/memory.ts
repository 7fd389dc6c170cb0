/** Memory of the browser: all processes that this one has started, and theirs. Known on Linux alone. */
import { readdirSync, readFileSync } from "node:fs";

const INTERVAL_MS = 200;

/**
 * Bytes resident in all descendants of this process, without the pages of files: those are the browser's own
 * code, which all its processes share. Null where `/proc` is not there.
 */
export function residentBytes(): number | null {
  const parents = new Map<number, number>();
  try {
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid)) continue;
      // After the name, which may hold anything but is in brackets: state, parent.
      const parent = field(
        `/proc/${pid}/stat`,
        (text) => text.slice(text.lastIndexOf(")") + 2).split(" ")[1],
      );
      if (parent !== null) parents.set(pid, parent);
    }
  } catch {
    return null;
  }
  const isOurs = (pid: number): boolean => {
    const parent = parents.get(pid);
    return parent !== undefined && (parent === process.pid || isOurs(parent));
  };
  let bytes = 0;
  for (const pid of parents.keys())
    for (const kind of isOurs(pid) ? ["RssAnon", "RssShmem"] : [])
      bytes +=
        1024 *
        (field(`/proc/${pid}/status`, (text) => new RegExp(`${kind}:\\s+(\\d+)`).exec(text)?.[1]) ?? 0);
  return bytes;
}

/** A number in a file of a process, or null if the process has ended. */
function field(path: string, find: (text: string) => string | undefined): number | null {
  try {
    return Number(find(readFileSync(path, "utf8")) ?? 0);
  } catch {
    return null;
  }
}

/** Watches the memory until it is stopped, which gives the peak. */
export function watchMemory(measure = residentBytes): { stop(): number | null } {
  let peak = measure();
  const timer = setInterval(() => {
    const now = measure();
    if (now !== null) peak = Math.max(peak ?? 0, now);
  }, INTERVAL_MS);
  return {
    stop() {
      clearInterval(timer);
      return peak;
    },
  };
}
