// Sorts a table when a heading is clicked. The tables work without this script, too.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, heads, column));
  });
}

function sort(table, heads, column) {
  const number = heads[column].classList.contains("number");
  const before = heads[column].getAttribute("aria-sort");
  const first = number ? "descending" : "ascending";
  const order = before === first ? (number ? "ascending" : "descending") : first;
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    const [one, other] = [a.cells[column], b.cells[column]];
    if (!number) return sign * one.textContent.localeCompare(other.textContent);
    // Cells without a number come last in either order.
    if (one.dataset.v === "" || other.dataset.v === "") return (one.dataset.v === "") - (other.dataset.v === "");
    return sign * (Number(one.dataset.v) - Number(other.dataset.v));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare));
}
