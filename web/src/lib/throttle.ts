/** Runs `act` at most once per interval. The last call is never lost, unless cancelled. */
export function throttle(interval: number, act: () => void): { call(): void; cancel(): void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return {
    call() {
      timer ??= setTimeout(() => {
        timer = undefined;
        act();
      }, interval);
    },
    cancel: () => clearTimeout(timer),
  };
}
