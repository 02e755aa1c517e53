"""`python -m deploy.helm`: write the charts of the services and the schema of their values."""

from deploy.helm.charts import CHART, generated_files

if __name__ == "__main__":
    for _name, _text in generated_files().items():
        _path = CHART / _name
        _path.parent.mkdir(parents=True, exist_ok=True)
        _path.write_text(_text, encoding="utf-8")
