const paths = {
  menu: "M4 7h16M4 12h10M4 17h16",
  plus: "M12 5v14M5 12h14",
  pen: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  settings:
    "M4 8h9m5 0h2M4 16h2m5 0h9M15.5 10.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z" +
    "M8.5 18.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5Z",
  disk:
    "M4 6.5c0-1.4 3.6-2.5 8-2.5s8 1.1 8 2.5-3.6 2.5-8 2.5-8-1.1-8-2.5Z" +
    "M4 6.5v11c0 1.4 3.6 2.5 8 2.5s8-1.1 8-2.5v-11M4 12c0 1.4 3.6 2.5 8 2.5s8-1.1 8-2.5",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.5 11v5M13.5 11v5",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "M5 12.5l4.5 4.5L19 7.5",
  redo: "M19 12a7 7 0 1 1-2.300-5.200L19 9M19 4v5h-5",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  chip: "M7 7h10v10H7zM10 3v4M14 3v4M10 17v4M14 17v4M3 10h4M3 14h4M17 10h4M17 14h4",
  alert: "M12 4 2.5 20h19zM12 10v5M12 17.5v.01",
  sun:
    "M12 16.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9ZM12 2v2M12 20v2M2 12h2" +
    "M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  moon: "M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z",
  chevron: "M7 10l5 5 5-5",
  left: "M14 7l-5 5 5 5",
  right: "M10 7l5 5-5 5",
  more:
    "M5 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0M11 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0" +
    "M17 12a1 1 0 1 0 2 0 1 1 0 1 0-2 0",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  teach: "M2.500 9 12 5l9.500 4L12 13zM6.500 11v5c2.500 2.600 8.500 2.600 11 0v-5M21.500 9v6",
  good: "M4 11h3v9H4zM7 11l4-7c2 0 2.500 1 2 3l-.500 3h6l-1.500 10H7",
  bad: "M4 13h3V4H4zM7 13l4 7c2 0 2.500-1 2-3l-.500-3h6L17 4H7",
  arena: "M12 4v16M8 20h8M4 7h16M4 7l-2.500 7h5zM20 7l-2.500 7h5z",
  search: "M11 17a6 6 0 1 0 0-12 6 6 0 0 0 0 12ZM15.500 15.500 20 20",
  cloud: "M7 18a4 4 0 0 1-.500-8 5.500 5.500 0 0 1 10.600-.800A4.400 4.400 0 0 1 17 18z",
  tool:
    "M15 6.500a4.500 4.500 0 0 0-5.700 5.700L4 17.500V20h2.500l5.300-5.300" +
    "a4.500 4.500 0 0 0 5.700-5.700L15 11.500 12.500 9z",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
};

/** A line drawing on a 24-unit grid. It is decoration: its button has the accessible name. */
export function Icon({ name }: { name: keyof typeof paths }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} fill={name === "stop" ? "currentcolor" : undefined} />
    </svg>
  );
}
