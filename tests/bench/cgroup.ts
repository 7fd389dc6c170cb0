/** Limits the memory of a browser with all its processes, by a cgroup. */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A cgroup with a limit. */
export interface Cgroup {
  version: 1 | 2;
  /** A shell script that starts the program in the cgroup. */
  wrapper(program: string): string;
  /** Bytes of all processes. Shared memory counts once; pages of files do not, as they can be read again. */
  residentBytes(): number;
  /** Number of processes that were killed because the limit was reached. */
  killed(): number;
  /** Removes the cgroup. All its processes must have ended. */
  remove(): void;
}

const ROOT = "/sys/fs/cgroup";

/** Makes a cgroup, or returns why it cannot: it needs Linux and usually root. */
export function limitMemory(bytes: number): Cgroup | string {
  try {
    return existsSync(join(ROOT, "cgroup.controllers")) ? unified(bytes) : separate(bytes);
  } catch (error) {
    return (error as Error).message;
  }
}

function unified(bytes: number): Cgroup {
  writeFileSync(join(ROOT, "cgroup.subtree_control"), "+memory");
  const folder = make(ROOT);
  writeFileSync(join(folder, "memory.max"), String(bytes));
  if (existsSync(join(folder, "memory.swap.max"))) writeFileSync(join(folder, "memory.swap.max"), "0");
  return cgroup(2, folder, ["anon", "shmem"], "memory.events");
}

function separate(bytes: number): Cgroup {
  const folder = make(join(ROOT, "memory"));
  writeFileSync(join(folder, "memory.limit_in_bytes"), String(bytes));
  return cgroup(1, folder, ["rss", "shmem"], "memory.oom_control");
}

function make(parent: string): string {
  const folder = join(parent, `nomoat-${process.pid}`);
  mkdirSync(folder);
  return folder;
}

function cgroup(version: 1 | 2, folder: string, kinds: string[], events: string): Cgroup {
  const read = (name: string, key: string) =>
    Number(new RegExp(`^${key} (\\d+)`, "m").exec(readFileSync(join(folder, name), "utf8"))?.[1] ?? 0);
  return {
    version,
    wrapper: (program) => `#!/bin/sh\necho $$ > ${folder}/cgroup.procs && exec ${program} "$@"\n`,
    residentBytes: () => kinds.reduce((sum, kind) => sum + read("memory.stat", kind), 0),
    killed: () => read(events, "oom_kill"),
    remove: () => rmdirSync(folder),
  };
}
