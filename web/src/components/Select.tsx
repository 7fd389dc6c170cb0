import type { JSX } from "preact";
import { Icon } from "./Icon";

/** A native select with a drawn arrow. */
export function Select(props: JSX.IntrinsicElements["select"]) {
  return (
    <span class="select">
      <select {...props} />
      <Icon name="chevron" />
    </span>
  );
}
