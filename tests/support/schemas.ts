/** Random JSON Schemas. */

export type Schema = Record<string, unknown>;

/** A schema whose values are short: every text and list has a longest length. */
export function randomSchema(random: () => number, depth = 3): Schema {
  const below = (n: number) => Math.floor(random() * n);
  const pick = <T>(list: readonly T[]) => list[below(list.length)] as T;
  const leaves: (() => Schema)[] = [
    () => ({ type: "string", maxLength: 1 + below(12) }),
    () => ({ type: "string", minLength: 2, maxLength: 2 + below(6) }),
    () => ({ enum: ["red", "green", 'ünïcode "quoted"', "", 7, null, true].slice(below(4)) }),
    () => ({ type: "string", pattern: pick(["^[a-f0-9]{4,8}$", "^(yes|no)$", "^[A-Z][a-z]{1,6}$"]) }),
    () => ({ type: "string", format: pick(["date", "time", "uuid", "ipv4"]) }),
    () => ({ type: "integer", minimum: -below(200), maximum: below(5000) }),
    () => ({ type: "number", minimum: 0, exclusiveMaximum: 1 + below(10) }),
    () => ({ type: pick(["boolean", "null"]) }),
    () => ({ const: pick([1, "one", [1, { a: "b" }], { deep: [null] }]) }),
  ];
  const inner = () => randomSchema(random, depth - 1);
  const branches: (() => Schema)[] = [
    () => {
      const names = ["name", "age", "tags", "a b", "ключ", "nested"].slice(0, 1 + below(5));
      return {
        type: "object",
        properties: Object.fromEntries(names.map((name) => [name, inner()])),
        required: names.filter(() => random() < 0.7),
        additionalProperties: false,
      };
    },
    () => ({ type: "array", items: inner(), minItems: below(2), maxItems: 1 + below(3) }),
    () => ({ type: "array", prefixItems: [inner(), inner()], items: false, minItems: 2 }),
    () => ({ anyOf: [inner(), inner()] }),
    () => ({ type: ["integer", "null"] }),
  ];
  return pick(depth === 0 || random() < 0.3 ? leaves : branches)();
}
