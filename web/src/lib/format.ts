const units = ["B", "kB", "MB", "GB", "TB"];

/** Bytes in decimal units, three figures: "98.4 MB". */
export function bytes(count: number): string {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.5 ? 0 : value >= 9.95 ? 1 : 2;
  return `${Number(value.toFixed(digits))}\u00a0${units[unit]}`;
}

/** Bytes for a button or an option, whole units: "98 MB". */
export function roundBytes(count: number): string {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))}\u00a0kB`;
  if (count < 1e9) return `${Math.round(count / 1e6)}\u00a0MB`;
  return `${(count / 1e9).toFixed(1)}\u00a0GB`;
}

/** A number of parameters in the usual form: 135M, 1.5B. */
export function parameters(count: number): string {
  if (count >= 1e9) return `${Number((count / 1e9).toFixed(1))}B`;
  return `${Math.round(count / 1e6)}M`;
}

/** A rate, with one decimal below 100. */
export function rate(perSecond: number): string {
  return perSecond >= 100 ? Math.round(perSecond).toString() : perSecond.toFixed(1);
}

/** A number with its first two digits, for estimates. */
export function roughly(value: number): string {
  return String(Number(value.toPrecision(2)));
}

/** Facts in one line, which may break after a dot. Unknown ones are left out. */
export function joined(parts: readonly (string | null | undefined)[]): string {
  return parts.filter((part) => part != null).join("\u00a0\u00a0·\u2002");
}
