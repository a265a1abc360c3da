// Forms: the first thing to mend gets the focus; a secret's page does not send its form again when it is reloaded.
export function forms() {
  document.getElementById('summary')?.focus();
  const main = document.getElementById('main');
  if (main.dataset.replace) history.replaceState(null, '', main.dataset.replace);
  for (const menu of document.querySelectorAll('[data-menu]')) {
    menu.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !menu.open) return;
      menu.open = false;
      menu.querySelector('summary').focus();
    });
    document.addEventListener('click', (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
  }
}
