/** Memory of the browser: all processes that this one has started, and theirs. Known on Linux alone. */
import { readdirSync, readFileSync } from "node:fs";

const PAGE = 4096;
const INTERVAL_MS = 200;

/** Bytes resident in all descendants of this process; shared pages count once for each process. Null where `/proc` is not there. */
export function residentBytes(): number | null {
  const parents = new Map<number, number>();
  try {
    for (const name of readdirSync("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid)) continue;
      // After the name, which may hold anything but is in brackets: state, parent.
      const parent = field(`/proc/${pid}/stat`, (text) => text.slice(text.lastIndexOf(")") + 2).split(" ")[1]);
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
    if (isOurs(pid)) bytes += (field(`/proc/${pid}/statm`, (text) => text.split(" ")[1]) ?? 0) * PAGE;
  return bytes;
}

/** A number in a file of a process, or null if the process has ended. */
function field(path: string, find: (text: string) => string | undefined): number | null {
  try {
    return Number(find(readFileSync(path, "utf8")));
  } catch {
    return null;
  }
}

/** Watches the memory until it is stopped. */
export function watchMemory(): { stop(): number | null } {
  let peak = residentBytes();
  const timer = setInterval(() => {
    const now = residentBytes();
    if (now !== null) peak = Math.max(peak ?? 0, now);
  }, INTERVAL_MS);
  return {
    stop() {
      clearInterval(timer);
      return peak;
    },
  };
}
