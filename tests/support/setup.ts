/** Before all tests: everything they need is there, or the run fails with what to do. */
import { places } from "./places.ts";

export default function setup(): void {
  void [
    places.chromium,
    places.firefox,
    places.model,
    places.tarball,
    places.page,
    places.package,
    places.golden,
  ];
}
