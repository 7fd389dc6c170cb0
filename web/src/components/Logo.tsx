/** A ring of water, open where the bridge crosses it: no moat. */
export function Logo({ turning = false }: { turning?: boolean }) {
  return (
    <svg class={turning ? "logo turning" : "logo"} viewBox="0 0 64 64" aria-hidden="true" focusable="false">
      <path class="logo-ring" d="M21.5 50.19A21 21 0 1 1 42.5 50.19" />
      <path class="logo-bridge" d="M32 30v27" />
    </svg>
  );
}
